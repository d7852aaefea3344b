"""Passwords in addresses: taken out, and found in the environment."""

import os

import pytest

from pipelines.system.guard import MisuseError
from pipelines.tracking import credentials

NAMES = (credentials.HTTP_USER, credentials.HTTP_PASSWORD, credentials.DATABASE_PASSWORD)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, credentials.VARIABLE):
        # Set first, so that what the test sets is undone.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("uri", "bare", "expected"),
    [
        ("http://h:5000/x@y", "http://h:5000/x@y", (None, None, None)),
        ("http://me:s%2Fecret@h:5000", "http://h:5000", ("me", "s/ecret", None)),
        ("https://me:a@b@h", "https://h", ("me", "a@b", None)),
        ("http://token@h", "http://h", ("token", None, None)),
        ("postgresql://me@h/d", "postgresql://me@h/d", (None, None, None)),
        ("postgresql://me:p%40q@h/d?a=b", "postgresql://me@h/d?a=b", (None, None, "p@q")),
        ("postgresql+psycopg://me:p@ss@h/d", "postgresql+psycopg://me@h/d", (None, None, "p@ss")),
        ("postgresql://me:p/q#r?s@h/d", "postgresql://me@h/d", (None, None, "p/q#r?s")),
        ("postgresql://:pw@h/d", "postgresql://h/d", (None, None, "pw")),
        ("postgresql://h/d?user=me&password=pw&a=b", "postgresql://h/d?user=me&a=b", (None, None, "pw")),
        ("postgresql://me:pw@/d?host=/run/pg", "postgresql://me@/d?host=/run/pg", (None, None, "pw")),
        ("sqlite:////srv/my@home/a:b.db", "sqlite:////srv/my@home/a:b.db", (None, None, None)),
        ("sqlite:////a:b@c.db", "sqlite:////a:b@c.db", (None, None, None)),
        ("http:/me:pw@h", "http:/me@h", (None, None, "pw")),
    ],
)  # fmt: skip
def test_password_goes_into_the_environment(uri: str, bare: str, expected: tuple[str | None, ...]) -> None:
    assert credentials.adopted(uri) == bare
    assert tuple(os.environ.get(name) for name in NAMES) == expected


def test_user_alone_leaves_the_password_of_the_environment() -> None:
    os.environ[credentials.HTTP_PASSWORD] = "secret"
    assert credentials.adopted("http://me@h:5000") == "http://h:5000"
    assert (os.environ[credentials.HTTP_USER], os.environ[credentials.HTTP_PASSWORD]) == ("me", "secret")


def test_environment_keeps_address_without_password() -> None:
    os.environ[credentials.VARIABLE] = "postgresql://me:pw@h/d"
    assert credentials.of_environment(use=False) == "postgresql://me@h/d"
    assert credentials.DATABASE_PASSWORD not in os.environ
    os.environ[credentials.VARIABLE] = "postgresql://me:pw@h/d"
    assert credentials.of_environment(use=True) == os.environ[credentials.VARIABLE] == "postgresql://me@h/d"
    assert os.environ[credentials.DATABASE_PASSWORD] == "pw"


@pytest.mark.parametrize(
    ("argument", "expected", "password"),
    [
        ("tracking.uri=postgresql://me:pw@h/d", "tracking.uri=postgresql://me@h/d", "pw"),
        ("++tracking.uri='postgresql://me:p w@h/d'", "++tracking.uri='postgresql://me@h/d'", "p w"),
        ("traking.uri=postgresql://me:pw@h/d", "traking.uri=postgresql://me@h/d", None),
        ("model.weights=/a/b@c.keras", "model.weights=/a/b@c.keras", None),
    ],
)
def test_command_line_holds_no_password(argument: str, expected: str, password: str | None) -> None:
    assert credentials.concealed([argument]) == [expected]
    assert os.environ.get(credentials.DATABASE_PASSWORD) == password


def test_password_of_a_download_is_refused() -> None:
    with pytest.raises(MisuseError, match="must hold no user and no password") as caught:
        credentials.concealed(["dataset.url=https://me:secret@mirror/cifar.tar.gz"])
    assert "secret" not in str(caught.value)
    same = ["dataset.url=https://mirror/cifar.tar.gz"]
    assert credentials.concealed(same) == same


def test_quoted_addresses_are_redacted() -> None:
    redacted = credentials.redacted("got 'uri=http://me:pw@h and postgresql://u:x@y/z, not http://h:5000'")
    assert redacted == "got 'uri=http://me:***@h and postgresql://u:***@y/z, not http://h:5000'"
