"""The schema on databases of its own: up, down and up again, and what it refuses by itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from shared import migrate
from shared.database import Database
from shared.lifecycle import ALLOWED, TaskStatus
from shared.models import Base
from tests.conftest import Servers

ENDED = [status for status in TaskStatus if status.terminal]


@pytest.fixture
def scratch(servers: Servers) -> Iterator[str]:
    """The URL of an empty database on the test server."""
    name = f"scratch_{uuid4().hex}"

    async def administer(statement: str) -> None:
        connection = await asyncpg.connect(servers.postgres.url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(administer(f"CREATE DATABASE {name}"))
    yield servers.postgres.url.rpartition("/")[0] + f"/{name}"
    asyncio.run(administer(f"DROP DATABASE {name} WITH (FORCE)"))


def ask(url: str, sql: str) -> list[str]:
    async def fetch() -> list[str]:
        connection = await asyncpg.connect(url)
        found = [row[0] for row in await connection.fetch(sql)]
        await connection.close()
        return found

    return asyncio.run(fetch())


# Everything of ours lives in the schema "public"; Alembic keeps its own table there.
OURS = """
    SELECT relname::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'
    UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT typname::text FROM pg_type
    WHERE typnamespace = 'public'::regnamespace AND typname NOT LIKE '%alembic_version'
    ORDER BY 1
"""


def test_an_upgrade_can_be_taken_back_to_nothing_and_made_again(scratch: str) -> None:
    migrate.upgrade(scratch)
    first = ask(scratch, OURS)
    assert {"tasks", "outbox_messages", "roadmaps", "refuse_transition"} <= set(first)

    migrate.downgrade(scratch)
    assert ask(scratch, OURS) == []

    migrate.upgrade(scratch)
    assert ask(scratch, OURS) == first
    assert len(ask(scratch, "SELECT id FROM deployment")) == 1


def test_a_database_with_tasks_in_it_can_be_taken_back_too(scratch: str) -> None:
    migrate.upgrade(scratch)
    ask(scratch, SUCCEEDED_TASK.replace("$1", f"'{uuid4()}'::uuid"))
    migrate.downgrade(scratch)
    assert ask(scratch, OURS) == []


def test_the_models_and_the_migrations_describe_the_same_tables(scratch: str) -> None:
    migrate.upgrade(scratch)
    command.check(migrate.alembic_config(scratch))


def test_the_check_for_drift_sees_drift(scratch: str) -> None:
    migrate.upgrade(scratch)
    ask(scratch, "ALTER TABLE tasks DROP COLUMN traceparent")
    with pytest.raises(Exception, match="traceparent"):
        command.check(migrate.alembic_config(scratch))


# Autogenerate looks at no CHECK, no predicate of an index and no storage parameter.
DEFINITIONS = """
    SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic%'
    UNION ALL
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    UNION ALL
    SELECT relname || ' ' || reloptions::text FROM pg_class WHERE reloptions IS NOT NULL
      AND relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name <> 'alembic_version'
    ORDER BY 1
"""


def test_the_models_make_the_same_constraints_and_indexes_as_the_migrations(
    scratch: str,
) -> None:
    async def create_from_models() -> None:
        engine = create_async_engine(scratch.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()

    migrate.upgrade(scratch)
    migrated = ask(scratch, DEFINITIONS)
    migrate.downgrade(scratch)
    asyncio.run(create_from_models())
    assert ask(scratch, DEFINITIONS) == migrated
    assert len(migrated) > 50


def test_two_upgrades_at_once_both_succeed(scratch: str) -> None:
    """As processes: Alembic keeps its state in module globals."""
    program = "import sys; from shared import migrate; migrate.upgrade(sys.argv[1])"
    upgrades = [
        subprocess.Popen([sys.executable, "-c", program, scratch], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [upgrade.communicate(timeout=60)[1] for upgrade in upgrades]
    assert [upgrade.returncode for upgrade in upgrades] == [0, 0], said
    assert ask(scratch, "SELECT version_num FROM alembic_version") == [migrate.REVISION]
    assert len(ask(scratch, "SELECT id FROM deployment")) == 1


def test_an_upgrade_of_a_current_database_changes_nothing(scratch: str) -> None:
    migrate.upgrade(scratch)
    deployment = ask(scratch, "SELECT id FROM deployment")
    migrate.upgrade(scratch)
    assert ask(scratch, "SELECT id FROM deployment") == deployment


def test_the_revision_that_roles_ask_for_is_the_newest_script() -> None:
    scripts = ScriptDirectory.from_config(migrate.alembic_config("postgresql://nowhere"))
    assert scripts.get_heads() == [migrate.REVISION]


def test_the_revisions_are_in_the_order_of_their_names() -> None:
    """A role compares them as text to tell an older schema from a newer one."""
    scripts = ScriptDirectory.from_config(migrate.alembic_config("postgresql://nowhere"))
    names = [script.revision for script in scripts.walk_revisions()]
    assert names == sorted(names, reverse=True)


# --- what the database refuses, whoever asks ---

SUCCEEDED_TASK = """
    WITH task AS (
        INSERT INTO tasks (id, request_hash, input, status, roadmap_id, finished_at)
        VALUES ($1, '', '{}', 'succeeded', $1, now())
        RETURNING id
    )
    INSERT INTO roadmaps (task_id, id, tenant_id, lease_token, document)
    SELECT id, id, 'default', 1, '{}' FROM task
    RETURNING id
"""

# What a row of each state must look like for the CHECKs, so that only the trigger can refuse.
SHAPE = """
    lease_owner = CASE WHEN '{0}' = 'running' THEN 'w' END,
    lease_expires_at = CASE WHEN '{0}' = 'running' THEN now() END,
    roadmap_id = CASE WHEN '{0}' = 'succeeded' THEN id END,
    error = CASE WHEN '{0}' = 'failed' THEN '{{}}'::jsonb END,
    finished_at = CASE WHEN '{0}' IN ('succeeded', 'failed', 'canceled') THEN now() END
"""


@pytest.fixture
async def by_hand(servers: Servers, database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Somebody who types SQL; what they do is rolled back."""
    connection = await asyncpg.connect(servers.postgres.url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def a_task(by_hand: asyncpg.Connection, status: TaskStatus) -> UUID:
    """A task in this state, with a roadmap in reserve where the state has none."""
    task_id = uuid4()
    if status == TaskStatus.SUCCEEDED:
        await by_hand.execute(SUCCEEDED_TASK, task_id)
        return task_id
    await by_hand.execute(
        "INSERT INTO tasks (id, request_hash, input) VALUES ($1, '', '{}')", task_id
    )
    await by_hand.execute(
        """
        INSERT INTO roadmaps (task_id, id, tenant_id, lease_token, document)
        VALUES ($1, $1, 'default', 1, '{}')
        """,
        task_id,
    )
    if status != TaskStatus.QUEUED:
        await move(by_hand, task_id, status)
    return task_id


async def move(by_hand: asyncpg.Connection, task_id: UUID, status: TaskStatus) -> None:
    await by_hand.execute(
        f"UPDATE tasks SET status = '{status}', {SHAPE.format(status)} WHERE id = $1",
        task_id,
    )


@pytest.mark.parametrize("after", TaskStatus)
@pytest.mark.parametrize("before", TaskStatus)
async def test_the_trigger_allows_what_the_lifecycle_allows(
    by_hand: asyncpg.Connection, before: TaskStatus, after: TaskStatus
) -> None:
    task_id = await a_task(by_hand, before)
    # A row that keeps its state is not a move; an ended one may not even be touched.
    if after in ALLOWED[before] or (after == before and not before.terminal):
        await move(by_hand, task_id, after)
        assert await by_hand.fetchval("SELECT status FROM tasks") == after
    else:
        with pytest.raises(
            asyncpg.CheckViolationError, match=f"may not go from {before} to {after}"
        ):
            await move(by_hand, task_id, after)


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize(
    "change", ["stage = 'done'", "version = version + 1", 'input = \'{"goal": "x"}\'', "id = id"]
)
async def test_nothing_of_an_ended_task_can_be_changed(
    by_hand: asyncpg.Connection, status: TaskStatus, change: str
) -> None:
    task_id = await a_task(by_hand, status)
    with pytest.raises(asyncpg.CheckViolationError, match="may not go") as refused:
        await by_hand.execute(f"UPDATE tasks SET {change} WHERE id = $1", task_id)
    assert refused.value.hint == "a task that has ended never changes"


async def test_a_second_roadmap_for_a_task_is_refused(by_hand: asyncpg.Connection) -> None:
    task_id = await a_task(by_hand, TaskStatus.SUCCEEDED)
    with pytest.raises(asyncpg.UniqueViolationError, match="roadmaps_pk"):
        await by_hand.execute(
            """
            INSERT INTO roadmaps (task_id, id, tenant_id, lease_token, document)
            VALUES ($1, $2, 'default', 2, '{}')
            """,
            task_id,
            uuid4(),
        )


async def test_success_without_a_roadmap_is_refused(by_hand: asyncpg.Connection) -> None:
    task_id = await a_task(by_hand, TaskStatus.RUNNING)
    with pytest.raises(asyncpg.CheckViolationError, match="tasks_one_roadmap_check"):
        await by_hand.execute(
            """
            UPDATE tasks SET status = 'succeeded', finished_at = now(),
                             lease_owner = NULL, lease_expires_at = NULL
            WHERE id = $1
            """,
            task_id,
        )


async def test_success_with_a_roadmap_that_does_not_exist_is_refused(
    by_hand: asyncpg.Connection,
) -> None:
    task_id = await a_task(by_hand, TaskStatus.RUNNING)
    await by_hand.execute("DELETE FROM roadmaps")
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="tasks_roadmap_id_fk"):
        await move(by_hand, task_id, TaskStatus.SUCCEEDED)


async def test_the_roadmap_of_a_succeeded_task_cannot_be_deleted(
    by_hand: asyncpg.Connection,
) -> None:
    await a_task(by_hand, TaskStatus.SUCCEEDED)
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="tasks_roadmap_id_fk"):
        await by_hand.execute("DELETE FROM roadmaps")


async def test_a_roadmap_without_a_task_is_refused(by_hand: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="roadmaps_task_id_fk"):
        await by_hand.execute(
            """
            INSERT INTO roadmaps (task_id, id, tenant_id, lease_token, document)
            VALUES ($1, $1, 'default', 1, '{}')
            """,
            uuid4(),
        )


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"status": "'paused'"}, "tasks_status_check"),
        ({"priority": "0"}, "tasks_priority_check"),
        ({"attempts": "-1"}, "tasks_budgets_check"),
        ({"lease_owner": "'w'", "lease_expires_at": "now()"}, "tasks_running_is_leased_check"),
        ({"status": "'running'"}, "tasks_running_is_leased_check"),
        ({"error": "'{}'"}, "tasks_error_iff_failed_check"),
        ({"finished_at": "now()"}, "tasks_finished_iff_terminal_check"),
        ({"status": "'canceled'"}, "tasks_finished_iff_terminal_check"),
        ({"status": "'failed'", "finished_at": "now()"}, "tasks_error_iff_failed_check"),
        ({"progress": "101"}, "tasks_progress_check"),
        ({"progress": "-1"}, "tasks_progress_check"),
        ({"cancel_requested_at": "now()"}, "tasks_canceling_check"),
    ],
    ids=json.dumps,
)
async def test_a_task_that_contradicts_itself_is_refused(
    by_hand: asyncpg.Connection, columns: dict[str, str], rule: str
) -> None:
    names, values = ", ".join(columns), ", ".join(columns.values())
    with pytest.raises(asyncpg.CheckViolationError, match=rule):
        await by_hand.execute(
            f"INSERT INTO tasks (id, request_hash, input, {names}) "
            f"VALUES ($1, '', '{{}}', {values})",
            uuid4(),
        )


@pytest.mark.parametrize("after", TaskStatus)
async def test_who_is_being_canceled_keeps_running_or_is_canceled(
    by_hand: asyncpg.Connection, after: TaskStatus
) -> None:
    task_id = await a_task(by_hand, TaskStatus.RUNNING)
    await by_hand.execute("UPDATE tasks SET cancel_requested_at = now()")
    if after in (TaskStatus.RUNNING, TaskStatus.CANCELED):
        await move(by_hand, task_id, after)
    else:
        with pytest.raises(asyncpg.CheckViolationError, match="tasks_canceling_check"):
            await move(by_hand, task_id, after)


async def a_step(by_hand: asyncpg.Connection, output: str | None) -> None:
    await by_hand.execute(
        """
        INSERT INTO task_steps (task_id, step, step_version, input_hash, lease_token, entry_id,
                                tries, failures, output, calls, tokens_in, tokens_out, cost,
                                seconds, finished_at)
        VALUES ($1, 'design', 1, '', 1, $1, 1, 0, CAST($2::text AS jsonb), 1, 9, 9, 0.1, 1,
                CASE WHEN $2::text IS NOT NULL THEN now() END)
        """,
        uuid4(),
        output,
    )


@pytest.mark.parametrize(
    "change",
    [
        'output = \'{"said": "no"}\'',
        "output = NULL, finished_at = NULL",
        "cost = cost + 1",
        "step = step",
    ],
)
async def test_a_step_that_has_its_output_never_changes(
    by_hand: asyncpg.Connection, change: str
) -> None:
    await a_step(by_hand, output='{"said": "yes"}')
    with pytest.raises(asyncpg.CheckViolationError, match="step design of task") as refused:
        await by_hand.execute(f"UPDATE task_steps SET {change}")
    assert refused.value.hint == "the output of a step never changes"


async def test_a_step_without_output_may_still_get_it(by_hand: asyncpg.Connection) -> None:
    await a_step(by_hand, output=None)
    await by_hand.execute("UPDATE task_steps SET failures = 1")
    await by_hand.execute("UPDATE task_steps SET output = '{}', finished_at = now()")


@pytest.mark.parametrize("half", ["finished_at = now()", "output = '{}'"])
async def test_a_step_is_finished_iff_it_has_its_output(
    by_hand: asyncpg.Connection, half: str
) -> None:
    await a_step(by_hand, output=None)
    with pytest.raises(asyncpg.CheckViolationError, match="task_steps_finished_iff_output_check"):
        await by_hand.execute(f"UPDATE task_steps SET {half}")


async def test_there_is_one_deployment(by_hand: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        await by_hand.execute("INSERT INTO deployment DEFAULT VALUES")
