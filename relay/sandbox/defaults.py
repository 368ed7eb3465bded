"""The demo tenant that exists when the sandbox starts. Documented values; nothing here is secret."""

from typing import Final

APP_ID: Final = "610248357190246"
APP_SECRET: Final = "sandbox-app-secret"  # noqa: S105 - a documented value of an emulator
VERIFY_TOKEN: Final = "sandbox-verify-token"  # noqa: S105 - a documented value of an emulator
ACCESS_TOKEN: Final = "EAAsandboxaccesstoken"  # noqa: S105 - a documented value of an emulator
PORTFOLIO_ID: Final = "230984571029384"
WABA_ID: Final = "482019384756102"
WABA_NAME: Final = "Kiln & Clay"
PHONE_NUMBER_IDS: Final = ("720193847561029", "720193847561030")
DISPLAY_PHONE_NUMBERS: Final = ("+1 555-010-2030", "+1 555-010-2031")
VERIFIED_NAMES: Final = ("Kiln & Clay", "Kiln & Clay Workshop")
"""The demo numbers, in the order in which `--phone-number-id` replaces their ids."""

GRAPH_VERSION: Final = "v26.0"
"""The version that serves calls without a version in the path."""
