"""Sign-in: `POST /api/v1/auth/login`, `/refresh`, `/logout` and `GET /api/v1/me`."""

from uuid import UUID

import msgspec


class LoginRequest(msgspec.Struct, frozen=True):
    email: str
    password: str
    device_name: str = ""
    platform: str = ""


class RefreshRequest(msgspec.Struct, frozen=True):
    refresh_token: str


class TokenPair(msgspec.Struct, frozen=True):
    """`expires_in`: seconds until the access token ends. The refresh token is replaced at each use."""

    access_token: str
    refresh_token: str
    expires_in: int


class TenantInfo(msgspec.Struct, frozen=True):
    id: UUID
    name: str


class UserInfo(msgspec.Struct, frozen=True):
    id: UUID
    email: str
    name: str
    role: str


class NumberInfo(msgspec.Struct, frozen=True):
    """A WhatsApp number of the tenant; `display_phone_number` as Meta formats it."""

    id: UUID
    phone_number_id: str
    display_phone_number: str
    verified_name: str = ""


class Me(msgspec.Struct, frozen=True):
    user: UserInfo
    tenant: TenantInfo
    numbers: list[NumberInfo]
