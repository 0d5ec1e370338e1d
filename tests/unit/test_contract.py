"""The lint of new revisions: what it finds in a source, and what it leaves alone."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from db.migrations.__main__ import main
from db.migrations.contract import Finding, findings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAD = """
import sqlalchemy as sa
from alembic import op
revision = "a2"
down_revision = "a1"
T = "orders"
"""

# The body of upgrade(), and the kinds of what is found in it.
CASES = [
    # Alembic's operations
    ('op.drop_table("t")', "DROP"),
    ('op.drop_column("t", "c")', "DROP"),
    ('op.drop_constraint("ck", "t")', "DROP"),
    ('op.drop_index("ix", table_name="t")', "DROP"),
    ('op.drop_table_comment("t")', ""),
    ('op.rename_table("t", "u")', "RENAME"),
    ('op.alter_column("t", "c", new_column_name="d")', "RENAME"),
    ('op.alter_column("t", "c", type_=sa.BigInteger)', "RETYPE"),
    ('op.alter_column("t", "c", nullable=False)', "NOT_NULL"),
    ('op.alter_column("t", "c", nullable=False, server_default="1")', ""),
    ('op.alter_column("t", "c", nullable=False, existing_server_default="1")', ""),
    ('op.alter_column("t", "c", nullable=True)', ""),
    ('op.alter_column("t", "c", server_default=None)', "DROP"),
    ('op.alter_column("t", "c", comment="x", existing_type=sa.Text)', ""),
    ('op.add_column("t", sa.Column("c", sa.Text))', ""),
    ('op.add_column("t", sa.Column("c", sa.Text, nullable=False))', "NOT_NULL"),
    ('op.add_column("t", sa.Column("c", sa.Text, nullable=False, server_default=""))', ""),
    ('op.add_column("t", sa.Column("c", sa.Text, nullable=False, server_default=None))', "NOT_NULL"),
    ('op.add_column("t", sa.Column("c", sa.Integer, sa.Identity(), nullable=False))', ""),
    ('op.add_column("t", sa.Column("c", sa.Integer, sa.ForeignKey("u.id")))', "CONSTRAINT"),
    ('op.add_column("t", sa.Column("c", sa.Integer, index=True))', "INDEX"),
    ('op.add_column(table_name="t", column=sa.Column("c", sa.Text, nullable=False))', "NOT_NULL"),
    ('from sqlalchemy import Column as C\nop.add_column("t", C("c", sa.Text, nullable=False))', "NOT_NULL"),
    ('column = sa.Column("c", sa.Text, nullable=False)\nop.add_column("t", column)', "NOT_NULL"),
    ('op.create_index("ix", "t", ["c"])', "INDEX"),
    ('op.create_index("ix", "t", ["c"], postgresql_concurrently=True)', ""),
    ('op.create_index("ix", "t", ["c"], postgresql_concurrently=False)', "INDEX"),
    ('op.create_unique_constraint("uq", "t", ["c"])', "INDEX"),
    ('op.create_foreign_key("fk", "t", "u", ["c"], ["id"])', "CONSTRAINT"),
    ('op.create_foreign_key("fk", "t", "u", ["c"], ["id"], postgresql_not_valid=True)', ""),
    ('op.create_check_constraint("ck", "t", "c > 0")', "CONSTRAINT"),
    ('op.create_check_constraint("ck", "t", "c > 0", postgresql_not_valid=True)', ""),
    (
        'with op.batch_alter_table("t") as batch:\n    batch.drop_column("c")\n    batch.add_column(sa.Column("d"))',
        "DROP",
    ),
    ('with op.batch_alter_table("t") as batch:\n    batch.create_index("ix", ["c"])', "INDEX"),
    ('op.bulk_insert(sa.table("t"), [{"c": 1}])', ""),
    # Texts of SQL, however they come to be
    ('op.execute("DROP TABLE t")', "DROP"),
    ('op.execute(sa.text("drop  table\\n t"))', "DROP"),
    ('op.get_bind().execute(sa.text("DROP VIEW v"))', "DROP"),
    ('op.get_bind().exec_driver_sql("DROP TYPE t")', "DROP"),
    ('op.execute(f"ALTER TABLE {T} DROP COLUMN c")', "DROP"),
    ('op.execute("ALTER TABLE " + T + " DROP c")', "DROP"),
    ('op.execute("ALTER TABLE {} DROP c".format(T))', "DROP"),
    ('op.execute("ALTER TABLE %s DROP c" % T)', "DROP"),
    ('for name in ("a", "b"):\n    op.execute(f"ALTER TABLE {name} DROP c")', "DROP DROP"),
    ('for text in ["SELECT 1", "DROP TABLE t"]:\n    op.execute(text)', "DROP"),
    ("op.execute(\"SELECT 1; -- DROP TABLE t\\n/* DROP TABLE t; */ INSERT INTO t VALUES ('; DROP TABLE t')\")", ""),
    ('op.execute("DO $$ BEGIN IF true THEN ALTER TABLE t DROP c; END IF; END $$")', "DROP"),
    ('op.execute("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DROP TABLE t $$")', ""),
    ('op.execute("ALTER TABLE t RENAME c TO d")', "RENAME"),
    ('op.execute("ALTER TABLE IF EXISTS ONLY a.t RENAME TO u")', "RENAME"),
    ("op.execute(\"ALTER TYPE mood RENAME VALUE 'a' TO 'b'\")", "RENAME"),
    ("op.execute(\"ALTER TYPE mood ADD VALUE 'c'\")", ""),
    ('op.execute("ALTER TABLE t SET SCHEMA u")', "RENAME"),
    ('op.execute("ALTER TABLE t ALTER COLUMN c TYPE bigint USING c::bigint")', "RETYPE"),
    ('op.execute("ALTER TABLE t ALTER c SET DATA TYPE numeric(10, 2), ALTER d SET NOT NULL")', "RETYPE NOT_NULL"),
    ('op.execute("ALTER TABLE t ALTER c DROP NOT NULL, ALTER c SET DEFAULT 1")', ""),
    ('op.execute("ALTER TABLE t ALTER c DROP DEFAULT")', "DROP"),
    ('op.execute("ALTER TABLE t ADD COLUMN c text")', ""),
    ('op.execute("ALTER TABLE t ADD COLUMN IF NOT EXISTS c numeric(10, 2) NOT NULL")', "NOT_NULL"),
    ('op.execute("ALTER TABLE t ADD c int NOT NULL DEFAULT 0")', ""),
    ('op.execute("ALTER TABLE t ADD c bigserial NOT NULL")', ""),
    ('op.execute("ALTER TABLE t ADD c int REFERENCES u")', "CONSTRAINT"),
    ('op.execute("ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (c) REFERENCES u (id)")', "CONSTRAINT"),
    ('op.execute("ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (c) REFERENCES u (id) NOT VALID")', ""),
    ('op.execute("ALTER TABLE t ADD CHECK (c > 0)")', "CONSTRAINT"),
    ('op.execute("ALTER TABLE t VALIDATE CONSTRAINT fk")', ""),
    ('op.execute("ALTER TABLE t ADD CONSTRAINT uq UNIQUE (c)")', "INDEX"),
    ('op.execute("ALTER TABLE t ADD CONSTRAINT uq UNIQUE USING INDEX ix")', ""),
    ('op.execute("CREATE INDEX ON t (c)")', "INDEX"),
    ('op.execute("CREATE UNIQUE INDEX IF NOT EXISTS ix ON t (c)")', "INDEX"),
    ('op.execute("CREATE INDEX CONCURRENTLY ix ON t (c)")', ""),
    ('op.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO app; CREATE POLICY p ON t")', ""),
    ('op.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO app")', ""),
    ('op.execute(sa.table("t").update().values(c=1))', ""),
    ('op.execute(Path("a.sql").read_text())', "UNREAD"),
    ('with open("a.sql") as file:\n    everything = file.read()\nop.execute(everything)', "UNREAD"),
    # What the revision itself makes is nobody else's yet
    (
        'op.create_table("t")\nop.create_index("ix", "t", ["c"])\nop.create_foreign_key("fk", "t", "u", ["c"], ["d"])',
        "",
    ),
    ('op.create_table("t")\nop.create_foreign_key("fk", "u", "t", ["c"], ["d"])', "CONSTRAINT"),
    ('op.create_table("t", schema="s")\nop.drop_column("t", "c", schema="s")\nop.drop_column("t", "c")', "DROP"),
    (
        'op.execute("CREATE TABLE T (n int)")\nop.execute(\'CREATE INDEX ON "t" (n); ALTER TABLE t ADD CHECK (true)\')',
        "",
    ),
    ('op.execute("CREATE TEMP TABLE t AS SELECT 1")\nop.execute("DROP TABLE t")', ""),
    # What it takes away first was there before, whatever it makes in its place
    ('op.drop_table("t")\nop.create_table("t")', "DROP"),
    ('op.rename_table("t", "u")\nop.create_table("t")', "RENAME"),
    ('op.execute("DROP VIEW v; CREATE VIEW v AS SELECT 1")', "DROP"),
    (
        (
            'op.create_table("u")\n'
            'with op.batch_alter_table("t") as batch:\n    batch.drop_column("c")\n'
            'with op.batch_alter_table("u") as batch:\n    batch.create_index("ix", ["c"])'
        ),
        "DROP",
    ),
    ('for t in ("a", "b"):\n    op.create_table(t)\n    op.create_index(f"ix_{t}", t, ["c"])', ""),
    ('import tables\nop.create_table(tables.NAME)\nop.create_index("ix", tables.NAME, ["c"])', ""),
]


@pytest.fixture
def found(tmp_path: Path) -> Callable[[str], list[Finding]]:
    """What is found in a revision with this in its ``upgrade()``."""

    def of(body: str, *, head: str = HEAD, more: str = "") -> list[Finding]:
        path = tmp_path / "a2.py"
        path.write_text(f"{head}\ndef upgrade():\n{textwrap.indent(textwrap.dedent(body), '    ')}\n{more}")
        return findings(path)

    return of


@pytest.mark.parametrize(("body", "kinds"), CASES)
def test_what_a_revision_takes_away_or_locks_is_found(
    body: str, kinds: str, found: Callable[[str], list[Finding]]
) -> None:
    """And nothing else."""
    assert sorted(one.kind.name for one in found(body)) == sorted(kinds.split())


@pytest.mark.parametrize(
    "body",
    [
        'op.drop_column("t", "c")  # contract: no code has read it since a1',
        '# contract: no code has read it since a1\nop.drop_column("t", "c")',
        '# contract: no code has read it since a1,\n# which was a month ago\nop.drop_column("t", "c")',
        'op.drop_column(  # contract: no code has read it since a1\n    "t",\n    "c",\n)',
        'op.execute(\n    """\n    DROP TABLE t;\n    DROP TABLE u\n    """  # contract: nobody did\n)',
    ],
)
def test_a_line_that_says_why_is_enough(body: str, found: Callable[[str], list[Finding]]) -> None:
    """On the statement's lines, or right above it."""
    assert found(body) == []


@pytest.mark.parametrize(
    "body",
    [
        '# contract:\nop.drop_column("t", "c")',
        '# contract: of the next but one\n\nop.drop_column("t", "c")',
        'x = 1  # contract: of another statement\nop.drop_column("t", "c")',
        'op.drop_column("t", "c")\n# contract: too late',
        'y = "# contract: no comment"; op.drop_column("t", "c")',
    ],
)
def test_a_reason_is_of_one_statement_and_is_not_empty(body: str, found: Callable[[str], list[Finding]]) -> None:
    """Otherwise the next one would come along unseen."""
    assert [one.kind.name for one in found(body)] == ["DROP"]


def test_a_function_of_the_same_file_is_followed(found: Callable[..., list[Finding]]) -> None:
    """And one that upgrade() does not call is not: downgrade() is there to drop."""
    more = 'def shrink():\n    op.drop_table("t")\ndef downgrade():\n    op.drop_table("u")\n'
    assert [one.said for one in found("shrink()", more=more)] == ["op.drop_table('t')"]


@pytest.mark.parametrize(
    ("imported", "call"),
    [
        ("from alembic import op as o", 'o.drop_table("t")'),
        ("import alembic.op", 'alembic.op.drop_table("t")'),
        ("import alembic.op as o", 'o.drop_table("t")'),
        ("from alembic.op import drop_table as away", 'away("t")'),
        ("from alembic.op import execute", 'execute("DROP TABLE t")'),
    ],
)
def test_op_goes_by_any_name(imported: str, call: str, found: Callable[..., list[Finding]]) -> None:
    """As Python lets it."""
    assert [one.kind.name for one in found(call, head=imported)] == ["DROP"]


def test_a_finding_names_place_and_remedy(tmp_path: Path) -> None:
    """On one line, as editors read it."""
    path = tmp_path / "a2.py"
    path.write_text('from alembic import op\ndef upgrade():\n    op.drop_column(\n        "t", "c"\n    )\n')
    (found,) = findings(path)
    assert str(found) == (
        f"{path}:3: op.drop_column('t', 'c'): the release before may still use it. Drop it in a later release, when "
        "nothing does; or say why it may be, in a line '# contract: <why>'"
    )


@pytest.mark.filterwarnings("ignore:Revision a1 referenced")  # Alembic's, of the same
def test_after_a_revision_takes_those_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of the later ones alone is no traceback."""
    (tmp_path / "a2.py").write_text(f"{HEAD}\ndef upgrade():\n    pass\n")
    assert main(["lint", str(tmp_path), "--after", "a2"]) == 2
    assert capsys.readouterr().err == "no file of revision 'a1', after which another one comes: name its folder too\n"


def test_the_command_reads_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those given, or those of alembic.ini; it is 1 where it found something, and 2 where there was nothing to read."""
    (tmp_path / "a1.py").write_text(f"{HEAD}\ndef upgrade():\n    op.drop_table('t')\n".replace('"a1"', "None"))
    assert main(["lint", str(tmp_path)]) == 1
    assert "a1.py:9: op.drop_table('t'): " in capsys.readouterr().out
    assert main(["lint", str(tmp_path), "--after", "a2"]) == 0
    assert capsys.readouterr().out == "0 revisions read, 0 changes without a reason\n"
    assert main(["lint", str(tmp_path), "--after", "a3"]) == 2
    assert main(["lint", str(tmp_path / "nowhere")]) == 2
    assert "no revision in " in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["lint"]) == 2
    ini = "[alembic]\nscript_location = db:migrations\nversion_locations = %(here)s\npath_separator = newline\n"
    (tmp_path / "alembic.ini").write_text(ini)
    assert main(["lint"]) == 1
    assert capsys.readouterr().out.startswith("a1.py:9: op.drop_table('t'): ")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"def upgrade(:\n", ":1: invalid syntax"),
        (b"\n\n# \xff\n", "codec can't decode"),
        (b"# coding: nonsense\n", "unknown encoding"),
        (b"x = 1\0\n", "null bytes"),
    ],
)
def test_a_file_that_python_cannot_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: bytes, said: str
) -> None:
    """In a line, and not in a traceback of the lint's own."""
    (tmp_path / "a2.py").write_bytes(source)
    assert main(["lint", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert (error.startswith(str(tmp_path / "a2.py")), said in error, error.count("\n")) == (True, True, 1)


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", "# coding: latin-1\n# Größe\n".encode("latin-1")])
def test_a_file_is_read_in_the_encoding_that_it_has(tmp_path: Path, start: bytes) -> None:
    """As Python itself does, which deploys it."""
    (tmp_path / "a2.py").write_bytes(start + b"def upgrade():\n    op.drop_table('t')\n")
    assert [found.said for found in findings(tmp_path / "a2.py")] == ["op.drop_table('t')"]


def test_a_revision_that_alembic_cannot_load_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alembic runs the files that alembic.ini names, and what one raises is that file's; so is a broken alembic.ini."""
    (tmp_path / "a2.py").write_text("raise RuntimeError('why')\n")
    monkeypatch.chdir(tmp_path)
    ini = "[alembic]\nscript_location = db:migrations\nversion_locations = %(here)s\npath_separator = newline\n"
    for content, said in ((ini, "RuntimeError: why\n"), ("garbage", "garbage")):
        (tmp_path / "alembic.ini").write_text(content)
        assert main(["lint"]) == 2
        assert said in capsys.readouterr().err
    assert main(["lint", str(tmp_path), "--after", "a2"]) == 2
    assert capsys.readouterr().err == "Alembic cannot load the revisions: RuntimeError: why\n"
