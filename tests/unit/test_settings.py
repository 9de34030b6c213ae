"""Settings: read once, frozen, and every refusal names the variable and what it may hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import StartupError
from shared.settings import PREFIX, Settings, load_settings

DATABASE_URL = "postgresql://waymark:s3cret@db:5432/waymark"
SECRETS = {"WAYMARK_DATABASE_URL": DATABASE_URL, "WAYMARK_REDIS_URL": "redis://:s3cret@broker/0"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in os.environ if one.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def refusal() -> str:
    with pytest.raises(StartupError) as refused:
        load_settings()
    return str(refused.value)


def test_without_any_variable_the_defaults_run_the_product() -> None:
    settings = load_settings()
    assert (settings.api_port, settings.lease, settings.database_url) == (8080, 60, None)


def test_a_variable_of_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYMARK_API_PORT", "9999")
    monkeypatch.setenv("WAYMARK_LOG_LEVEL", "debug")
    monkeypatch.setenv("WAYMARK_LEASE", "42.5")
    settings = load_settings()
    assert (settings.api_port, settings.log_level, settings.lease) == (9999, "debug", 42.5)


@pytest.mark.parametrize(("variable", "value"), SECRETS.items())
def test_a_secret_can_be_read_from_a_file(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{value}\n", encoding="utf-8")
    monkeypatch.setenv(f"{variable}_FILE", str(secret))
    settings = load_settings()
    read = {
        "WAYMARK_DATABASE_URL": settings.require_database,
        "WAYMARK_REDIS_URL": settings.require_redis,
    }
    assert read[variable]() == value


@pytest.mark.parametrize(("variable", "value"), SECRETS.items())
def test_a_variable_and_its_file_together_are_refused_by_name(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(value, encoding="utf-8")
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
    assert refusal().startswith(f"{variable} and {variable}_FILE are both set")


def test_a_file_that_cannot_be_read_is_refused_with_its_variable_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for unreadable in (tmp_path / "absent", tmp_path, binary):
        monkeypatch.setenv("WAYMARK_DATABASE_URL_FILE", str(unreadable))
        assert refusal().startswith(
            f"WAYMARK_DATABASE_URL_FILE names {unreadable}, which cannot be read"
        )


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("WAYMARK_API_PORT", "70000", "less than or equal to 65535"),
        ("WAYMARK_API_PORT", "http", "valid integer"),
        ("WAYMARK_METRICS_PORT", "0", "greater than or equal to 1"),
        ("WAYMARK_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("WAYMARK_DATABASE_URL", "mysql://u:s3cret@h/db", "postgresql:// or postgres://"),
        ("WAYMARK_DATABASE_URL", "", "postgresql:// or postgres://"),
        ("WAYMARK_REDIS_URL", "http://:s3cret@h", "redis:// or rediss:// or unix://"),
        ("WAYMARK_RELAY_BATCH", "0", "greater than or equal to 1"),
        ("WAYMARK_LEASE", "0.5", "greater than or equal to 1"),
        ("WAYMARK_STARTUP_TIMEOUT", "nan", "finite number"),
        ("WAYMARK_DATABASE_COMMAND_TIMEOUT", "inf", "finite number"),
        ("WAYMARK_HEARTBEAT", "31", "at most half of WAYMARK_LEASE (60 s)"),
    ],
)
def test_a_bad_value_is_refused_with_its_variable_and_what_is_allowed(
    variable: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    said = refusal()
    assert said.startswith(f"{variable} is not usable: ")
    assert allowed in said
    assert "s3cret" not in said


def test_a_bad_value_from_a_file_is_refused_like_one_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "port").write_text("many", encoding="utf-8")
    monkeypatch.setenv("WAYMARK_API_PORT_FILE", str(tmp_path / "port"))
    assert refusal().startswith("WAYMARK_API_PORT is not usable: ")


def test_all_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYMARK_API_PORT", "-1")
    monkeypatch.setenv("WAYMARK_LEASE", "0")
    said = refusal()
    assert "WAYMARK_API_PORT" in said
    assert "WAYMARK_LEASE" in said


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.api_port = 1


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SECRETS.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert "s3cret" not in f"{settings} {settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize("variable", SECRETS)
def test_a_url_that_is_not_set_is_asked_for_with_an_example_and_the_way_without(
    variable: str,
) -> None:
    settings = load_settings()
    require = {
        "WAYMARK_DATABASE_URL": settings.require_database,
        "WAYMARK_REDIS_URL": settings.require_redis,
    }
    with pytest.raises(StartupError) as refused:
        require[variable]()
    said = str(refused.value)
    assert said.startswith(f"{variable} is not set")
    assert f"{variable}={SECRETS[variable].partition(':')[0]}://" in said
    assert "`waymark up`" in said


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
