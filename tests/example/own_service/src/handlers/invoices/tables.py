from sqlalchemy import BigInteger, Boolean, Column, Date, MetaData, PrimaryKeyConstraint, Table, Text, Uuid, false, text

metadata = MetaData()

invoices = Table(
    'invoices', metadata,
    Column('tenant_id', Text, nullable=False, server_default=text("current_setting('app.tenant_id')")),
    Column('id', Uuid, nullable=False),
    Column('customer', Text, nullable=False),
    Column('due', Date, nullable=False),
    Column('total_minor', BigInteger, nullable=False),
    Column('paid', Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint('tenant_id', 'id', name='pk_invoices'),
)
