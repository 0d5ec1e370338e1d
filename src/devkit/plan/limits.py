"""What AWS and the servers allow, each number with its source and a date: the only place for either.

The date is that of the text, and where the text has none, that of looking it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_AURORA = "https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide"
_RDS = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide"
_LAMBDA = "https://docs.aws.amazon.com/lambda/latest"

POSTGRESQL, MYSQL, MARIADB = "postgresql", "mysql", "mariadb"

# --- Lambda
ACCOUNT = 1000
TENANT_FACTOR = 2.5
EVENTS_PER_VCPU = 16
GIB_PER_VCPU = 2

# --- reserves
SUPERUSERS = 3
RDS_SUPERUSERS = 2
RDS_SUPERUSERS_UNTIL = 15  # the last major version that has them
PEOPLE = 3

# --- max_connections
BYTES_PER_CONNECTION = {POSTGRESQL: 9_531_392, MYSQL: 12_582_880, MARIADB: 25_165_760}
MOST = {POSTGRESQL: 5000, MYSQL: 100_000, MARIADB: 12_000}
SHARE_OF_MEMORY = 0.8
GIB = 1 << 30
DSQL = 10_000
PROXY_PERCENT = 100
# By the first letter of a class, GiB of memory by its size.
_MEMORY_GIB: dict[str, dict[str, float]] = {
    "t": {"micro": 1, "small": 2, "medium": 4, "large": 8, "xlarge": 16, "2xlarge": 32},
    "m": {"large": 8, "xlarge": 16, "2xlarge": 32, "4xlarge": 64, "8xlarge": 128, "12xlarge": 192, "16xlarge": 256},
    "r": {"large": 15.25, "xlarge": 30.5, "2xlarge": 61, "4xlarge": 122, "8xlarge": 244, "12xlarge": 366},
}
_READ_ON_RDS = {"db.t4g.micro": 112, "db.t4g.small": 181}
_AURORA_POSTGRESQL: dict[str, dict[str, int]] = {
    "t": {"medium": 405, "large": 844},
    "r": {
        "large": 1600,
        "xlarge": 3200,
        **dict.fromkeys(("2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge"), 5000),
    },
}
_AURORA_MYSQL: dict[str, dict[str, int]] = {
    "t": {"small": 45, "medium": 90, "large": 135},
    "r": {
        "large": 1000,
        "xlarge": 2000,
        "2xlarge": 3000,
        "4xlarge": 4000,
        "8xlarge": 5000,
        "12xlarge": 6000,
        "16xlarge": 6000,
        "24xlarge": 7000,
    },
}
_BY_ACU = {
    POSTGRESQL: {1: 189, 4: 823, 8: 1669, 16: 3360, 32: 5000},
    MYSQL: {1: 90, 4: 135, 8: 1000, 16: 2000, 32: 3000, 64: 4000, 128: 5000},
}
SMALL_ACU, SMALL_ACU_MOST = 0.5, 2000


@dataclass(frozen=True)
class Limit:
    """A row of the table: what it is about, the number or formula in words, and who says so, and when."""

    what: str
    number: str
    source: str
    date: str


TABLE = (
    Limit(
        "environments at once in an account",
        f"{ACCOUNT:,} unless asked for more, 10 or 50 in a new one",
        f"{_LAMBDA}/dg/gettingstarted-limits.html",
        "2026-11",
    ),
    Limit(
        "environments kept with tenant isolation",
        f"{TENANT_FACTOR:g} for each that may be at work",
        f"{_LAMBDA}/dg/tenant-isolation-troubleshooting.html",
        "2026-11",
    ),
    Limit(
        "processes of an environment on Managed Instances, Python",
        f"{EVENTS_PER_VCPU} a vCPU, which has {GIB_PER_VCPU} GiB",
        f"{_LAMBDA}/dg/lambda-managed-instances-python-runtime.html",
        "2026-11",
    ),
    Limit(
        "environments on Managed Instances",
        "MaxExecutionEnvironments",
        f"{_LAMBDA}/api/API_FunctionScalingConfig.html",
        "2026-11",
    ),
    Limit("events at once from a queue", "MaximumConcurrency", f"{_LAMBDA}/dg/services-sqs-scaling.html", "2026-11"),
    Limit(
        "PostgreSQL, kept for superusers",
        f"superuser_reserved_connections, {SUPERUSERS}",
        "https://www.postgresql.org/docs/current/runtime-config-connection.html",
        "18",
    ),
    Limit(
        f"RDS for PostgreSQL up to {RDS_SUPERUSERS_UNTIL}, kept for rds_superuser",
        f"rds.rds_superuser_reserved_connections, {RDS_SUPERUSERS}",
        "https://repost.aws/knowledge-center/rds-postgresql-error-connection-slots",
        "2022-06",
    ),
    Limit(
        "for a person, a dashboard and a backup",
        f"{PEOPLE}, also those that Aurora asks to leave to AWS's own",
        f"{_AURORA}/AuroraPostgreSQL.Managing.html",
        "2023-06",
    ),
    Limit(
        "RDS for PostgreSQL, max_connections",
        f"LEAST({{DBInstanceClassMemory/{BYTES_PER_CONNECTION[POSTGRESQL]}}}, {MOST[POSTGRESQL]})",
        "https://docs.aws.amazon.com/prescriptive-guidance/latest/tuning-postgresql-parameters/max-connections.html",
        "2026-11",
    ),
    Limit(
        "RDS for MySQL, max_connections",
        f"{{DBInstanceClassMemory/{BYTES_PER_CONNECTION[MYSQL]}}}",
        f"{_RDS}/CHAP_Limits.html#RDS_Limits.MaxConnections",
        "2026-11",
    ),
    Limit(
        "RDS for MariaDB, max_connections",
        f"LEAST({{DBInstanceClassMemory/{BYTES_PER_CONNECTION[MARIADB]}}}, {MOST[MARIADB]})",
        f"{_RDS}/CHAP_Limits.html#RDS_Limits.MaxConnections",
        "2026-11",
    ),
    Limit(
        "DBInstanceClassMemory",
        f"{SHARE_OF_MEMORY:.0%} of the class's memory, for the system takes some. {_READ_ON_RDS['db.t4g.small']} of 225"
        " were read on a db.t4g.small, and no smaller share is known",
        "https://github.com/kirill-markin/flashcards-open-source-app/pull/1657",
        "2026-08",
    ),
    Limit(
        "db.t4g.micro, as read on a server",
        f"{_READ_ON_RDS['db.t4g.micro']}",
        "https://github.com/kirill-markin/flashcards-open-source-app/pull/1635",
        "2026-08",
    ),
    Limit(
        "Aurora PostgreSQL, by class",
        "t: medium 405, large 844; r: large 1,600, xlarge 3,200, larger ones 5,000; of r5 and r6g a little more",
        f"{_AURORA}/AuroraPostgreSQL.Managing.html",
        "2023-06",
    ),
    Limit(
        "Aurora MySQL, by class",
        "t: small 45, medium 90, large 135; r: large 1,000 to 24xlarge 7,000",
        f"{_AURORA}/AuroraMySQL.Managing.Performance.html",
        "2023-06",
    ),
    Limit(
        "Aurora Serverless v2, PostgreSQL, by the most ACU",
        "1: 189, 4: 823, 8: 1,669, 16: 3,360, 32: 5,000; between two, the lower",
        f"{_AURORA}/aurora-serverless-v2.setting-capacity.html",
        "2023-06",
    ),
    Limit(
        "the same with 0.5 ACU at least, or none",
        f"{SMALL_ACU_MOST:,} at most",
        f"{_AURORA}/aurora-serverless-v2.setting-capacity.html",
        "2023-06",
    ),
    Limit(
        "Aurora Serverless v2, MySQL, by the most ACU",
        "1: 90, 4: 135, 8: 1,000, 16: 2,000, 32: 3,000, 64: 4,000, 128: 5,000; between two, the lower",
        f"{_AURORA}/aurora-serverless-v2.setting-capacity.html",
        "2023-06",
    ),
    Limit(
        "Aurora DSQL, a cluster",
        f"{DSQL:,}",
        "https://docs.aws.amazon.com/aurora-dsql/latest/userguide/CHAP_quotas.html",
        "2026-11",
    ),
    Limit(
        "RDS Proxy, of max_connections",
        f"MaxConnectionsPercent, {PROXY_PERCENT} unless said; what is idle beyond MaxIdleConnectionsPercent is closed",
        "https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ConnectionPoolConfiguration.html",
        "2026-11",
    ),
)


def by_class(engine: str, instance_class: str, *, aurora: bool) -> int | None:
    """The default of max_connections, or less where that is not published; None for a class that is not known."""
    family, size = _family_and_size(instance_class)
    if aurora:
        return (_AURORA_MYSQL if engine == MYSQL else _AURORA_POSTGRESQL).get(family, {}).get(size)
    if engine == POSTGRESQL and instance_class in _READ_ON_RDS:
        return _READ_ON_RDS[instance_class]
    memory_gib = _MEMORY_GIB.get(family, {}).get(size)
    if memory_gib is None or engine not in BYTES_PER_CONNECTION:
        return None
    return min(int(memory_gib * SHARE_OF_MEMORY * GIB / BYTES_PER_CONNECTION[engine]), MOST[engine])


def by_acu(engine: str, least: float, most: float) -> int | None:
    """The same for Aurora Serverless v2, by the row of the table at or below ``most``."""
    rows = _BY_ACU[MYSQL if engine == MYSQL else POSTGRESQL]
    below = [connections for acu, connections in rows.items() if acu <= most]
    if not below:
        return None
    capped = engine != MYSQL and least <= SMALL_ACU
    return min(below[-1], SMALL_ACU_MOST) if capped else below[-1]


def next_class(engine: str, instance_class: str, least: int, *, aurora: bool) -> str | None:
    """The smallest class of the same family that has ``least`` connections."""
    prefix = instance_class.rpartition(".")[0]
    family, _ = _family_and_size(instance_class)
    sizes: Mapping[str, float] = _MEMORY_GIB.get(family, {})
    found = ((by_class(engine, f"{prefix}.{size}", aurora=aurora), size) for size in sizes)
    return next((f"{prefix}.{size}" for connections, size in found if connections and connections >= least), None)


def next_acu(engine: str, least: float, connections: int) -> int | None:
    """The fewest ACU at most that have ``connections``."""
    rows = _BY_ACU[MYSQL if engine == MYSQL else POSTGRESQL]
    return next((acu for acu in rows if (by_acu(engine, least, acu) or 0) >= connections), None)


def reserved(engine: str, version: str | None, *, rds: bool) -> int:
    """What the server keeps of its connections for its superusers; a version that is not known counts as an old one."""
    if engine != POSTGRESQL:
        return 0
    major = (version or "").partition(".")[0]
    newer = major.isdecimal() and int(major) > RDS_SUPERUSERS_UNTIL
    return SUPERUSERS + (RDS_SUPERUSERS if rds and not newer else 0)


def as_markdown() -> str:
    """For docs/run/plan.md."""
    rows = [f"| {row.what} | {row.number} | [{row.date}]({row.source}) |" for row in TABLE]
    return "\n".join(["| what | how many | source, as of |", "|---|---|---|", *rows])


def _family_and_size(instance_class: str) -> tuple[str, str]:
    """Of ``db.r6g.large``, ``r`` and ``large``."""
    _, _, rest = instance_class.partition(".")
    name, _, size = rest.partition(".")
    return name[:1], size
