"""Migrations only add, so that a release works beside a newer one, and on what it leaves."""

import io
import re
from pathlib import Path

import pytest

from bento.store.migrate import VERSIONS
from bento.store.tables import VERSION_TABLE

DIALECTS = ("sqlite", "postgresql")

BASE = 'op.create_table("shop", sa.Column("id", sa.Text(), primary_key=True))'

FILE = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = {revision!r}, {before!r}, None, None


def upgrade():
    {statement}
"""


def write_sql(folder, dialect):
    """Of all migrations, as Alembic writes it without a database."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config, text = Config(), io.StringIO()
    config.set_main_option("script_location", str(folder))
    script = ScriptDirectory.from_config(config)

    def steps(current, _context):
        return script._upgrade_revs("head", current)

    with EnvironmentContext(config, script, fn=steps, as_sql=True) as environment:
        environment.configure(
            dialect_name=dialect, output_buffer=text, version_table=VERSION_TABLE,
            literal_binds=True,
        )  # fmt: skip
        with environment.begin_transaction():
            environment.run_migrations()
    return text.getvalue()


def list_faults(sql):
    """Statements that an older release would stumble over."""
    migrations = re.split("-- Running upgrade.*", sql)
    return [fault for one in migrations for fault in list_faults_of_one(one)]


def list_faults_of_one(migration):
    statements = [" ".join(one.split()) for one in migration.split(";") if one.strip()]
    made = set(re.findall(r"CREATE TABLE (\w+)", migration)) | {VERSION_TABLE}
    return [one for one in statements if not is_addition(one, made)]


def is_addition(statement, made):
    """`made` are the migration's own tables, in which it may do as it likes."""
    if re.match(r"BEGIN|COMMIT|CREATE TABLE", statement):
        return True
    if found := re.match(r"(?:INSERT INTO|UPDATE) (\w+)", statement):
        return found[1] in made
    if found := re.match(r"CREATE (UNIQUE )?INDEX \w+ ON (\w+)", statement):
        return not found[1] or found[2] in made
    if found := re.match(r"ALTER TABLE (\w+) ADD COLUMN (.+)", statement):
        is_optional = "NOT NULL" not in found[2] or "DEFAULT" in found[2]
        return is_optional and not re.search("UNIQUE|PRIMARY|REFERENCES|CHECK", found[2])
    return False


@pytest.mark.parametrize("dialect", DIALECTS)
def test_migrations_only_add(dialect):
    sql = write_sql(VERSIONS, dialect)
    assert sql.count("CREATE TABLE") >= 11
    assert list_faults(sql) == []


def write_migrations(folder, statement):
    versions = folder / "versions"
    versions.mkdir()
    for revision, before, one in (("0001", None, BASE), ("0002", "0001", statement)):
        text = FILE.format(revision=revision, before=before, statement=one)
        (versions / f"v{revision}.py").write_text(text)


@pytest.mark.parametrize(
    "statement",
    [
        'op.add_column("shop", sa.Column("town", sa.Text()))',
        'op.add_column("shop", sa.Column("n", sa.Integer(), nullable=False, server_default="0"))',
        'op.create_index("shop_by_id", "shop", ["id"])',
        'op.bulk_insert(op.create_table("till", sa.Column("id", sa.Text())), [{"id": "a"}])',
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_migration_may_do(tmp_path: Path, statement, dialect):
    write_migrations(tmp_path, statement)
    assert list_faults(write_sql(tmp_path, dialect)) == []


@pytest.mark.parametrize(
    "statement",
    [
        'op.drop_table("shop")',
        'op.drop_column("shop", "id")',
        'op.rename_table("shop", "store")',
        'op.add_column("shop", sa.Column("town", sa.Text(), nullable=False))',
        'op.add_column("shop", sa.Column("till", sa.Text(), sa.ForeignKey("tills.id")))',
        'op.create_index("shop_by_id", "shop", ["id"], unique=True)',
        """op.execute("update shop set id = lower(id)")""",
        """op.execute("delete from shop")""",
        """op.execute("create trigger t after insert on shop begin select 1; end")""",
    ],
)
def test_what_a_migration_may_not_do(tmp_path: Path, statement):
    write_migrations(tmp_path, statement)
    assert list_faults(write_sql(tmp_path, "postgresql"))
