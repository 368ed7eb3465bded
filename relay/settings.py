"""What an operator can set, read from the environment once at start. `.env.example` explains each name."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self, TypeVar, cast
from urllib.parse import urlsplit

from relay.kit.secrets import KeyRing

T = TypeVar("T")

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

DEFAULT_META_API_VERSION: Final = "v26.0"
DEFAULT_GRAPH_URL: Final = "https://graph.facebook.com"
JWT_SECRET_MIN_CHARS: Final = 32


class SettingsError(Exception):
    """The environment does not make a working relay; `problems` lists everything wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The relay's settings. Secrets stay out of its repr."""

    database_url: str = field(default="", repr=False)
    """`postgresql://…`; empty runs the embedded server under `data_dir`."""
    database_direct_url: str = field(default="", repr=False)
    """Around a transaction pooler, for LISTEN, jobs and migrations; the same as `database_url` otherwise."""
    redis_url: str = field(default="", repr=False)
    jwt_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Newest first; empty until boot generated one for the embedded server."""
    encryption_keys: str = field(default="", repr=False)
    """A key ring for `KeyRing.parse`; empty until boot generated one for the embedded server."""
    webhook_verify_token: str = field(default="", repr=False)
    meta_app_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Of the shared Meta app, newest first."""
    meta_api_version: str = DEFAULT_META_API_VERSION
    meta_graph_url: str = DEFAULT_GRAPH_URL
    public_url: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    data_dir: Path
    log_level: LogLevel = "info"
    log_format: LogFormat = "json"

    @property
    def embedded(self) -> bool:
        """Whether the relay brings its own Postgres server."""
        return not self.database_url

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read and check everything. Raises SettingsError with every problem at once."""
        read = _Reader(environ)
        database_url = read.text("DATABASE_URL", check=_postgres_url)
        direct_url = read.text("DATABASE_DIRECT_URL", check=_postgres_url)
        if direct_url and not database_url:
            read.problems.append("DATABASE_DIRECT_URL is set but DATABASE_URL is not; set both or neither.")
        host = read.text("HOST", "127.0.0.1")
        port = read.converted("PORT", "8080", _port)
        settings = cls(
            database_url=database_url,
            database_direct_url=direct_url,
            redis_url=read.text("REDIS_URL", check=_redis_url),
            jwt_secrets=read.ring("JWT_SECRET", check=_jwt_secret),
            encryption_keys=read.text("ENCRYPTION_KEY", check=KeyRing.parse),
            webhook_verify_token=read.text("WEBHOOK_VERIFY_TOKEN"),
            meta_app_secrets=read.ring("META_APP_SECRET"),
            meta_api_version=read.text("META_API_VERSION", DEFAULT_META_API_VERSION, check=_api_version),
            meta_graph_url=read.text("META_GRAPH_URL", DEFAULT_GRAPH_URL, check=_http_url).rstrip("/"),
            public_url=read.text("PUBLIC_URL", f"http://{host}:{port}", check=_http_url).rstrip("/"),
            host=host,
            port=port,
            data_dir=read.converted("DATA_DIR", str(_default_data_dir(environ)), _path),
            log_level=cast("LogLevel", read.choice("LOG_LEVEL", "info", LogLevel)),
            log_format=cast("LogFormat", read.choice("LOG_FORMAT", "json", LogFormat)),
        )
        if database_url:
            # Several machines may share this database, so nothing can be generated on one of them.
            hints = {
                "JWT_SECRET": 'python3 -c "import secrets; print(secrets.token_urlsafe(48))"',
                "ENCRYPTION_KEY": "relay keys generate",
            }
            read.problems += [
                f"{name} is required with DATABASE_URL. Make one with: {how}"
                for name, how in hints.items()
                if not environ.get(name, "").strip()
            ]
        if read.problems:
            raise SettingsError(read.problems)
        return settings


class _Reader:
    """Reads variables and notes what is wrong with them, instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def converted(self, name: str, default: str, convert: Callable[[str], T]) -> T:
        value = self._environ.get(name, "").strip() or default
        try:
            return convert(value)
        except ValueError as error:
            self.problems.append(f"{name}: {error}.")
            return convert(default)

    def text(self, name: str, default: str = "", *, check: Callable[[str], object] | None = None) -> str:
        value = self._environ.get(name, "").strip() or default
        if value and check is not None:
            try:
                check(value)
            except ValueError as error:
                self.problems.append(f"{name}: {error}.")
        return value

    def ring(self, name: str, *, check: Callable[[str], object] | None = None) -> tuple[str, ...]:
        parts = [part.strip() for part in self._environ.get(name, "").split(",")]
        for part in filter(None, parts):
            if check is not None:
                try:
                    check(part)
                except ValueError as error:
                    self.problems.append(f"{name}: {error}.")
        return tuple(filter(None, parts))

    def choice(self, name: str, default: str, kind: object) -> str:
        choices: tuple[str, ...] = kind.__args__  # type: ignore[attr-defined]  # a Literal's values
        value = (self._environ.get(name, "").strip() or default).lower()
        if value not in choices:
            self.problems.append(f"{name}: {value!r} is none of {', '.join(choices)}.")
            return default
        return value


def _postgres_url(value: str) -> None:
    if urlsplit(value).scheme not in ("postgresql", "postgres"):
        raise ValueError("it must begin with postgresql://")
    if not urlsplit(value).path.strip("/"):
        raise ValueError("it names no database (postgresql://user:password@host/database)")


def _redis_url(value: str) -> None:
    if urlsplit(value).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("it must begin with redis://, rediss:// or unix://")


def _http_url(value: str) -> None:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc:
        raise ValueError(f"{value!r} is not an http(s) address")


def _port(value: str) -> int:
    if not value.isdecimal() or not 0 <= int(value) <= 65535:
        raise ValueError(f"{value!r} is not a port between 0 and 65535")
    return int(value)


def _path(value: str) -> Path:
    path = Path(value).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is not a folder")
    return path


def _jwt_secret(value: str) -> None:
    if len(value) < JWT_SECRET_MIN_CHARS:
        raise ValueError(f"a secret has {len(value)} characters; it needs {JWT_SECRET_MIN_CHARS}")


def _api_version(value: str) -> None:
    if not (value.startswith("v") and value[1:].replace(".", "", 1).isdecimal()):
        raise ValueError(f"{value!r} does not look like {DEFAULT_META_API_VERSION}")


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    """Where the system keeps such data. Root's home is closed to the user the embedded server runs as."""
    if os.geteuid() == 0:
        return Path("/var/lib/relaydesk")
    share = environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    return Path(share, "relaydesk-relay")
