"""Everything that makes up a running sandbox, put together."""

from dataclasses import dataclass, field

from relay.sandbox import defaults
from relay.sandbox.callback_client import check_url
from relay.sandbox.faults import Faults
from relay.sandbox.ids import Ids
from relay.sandbox.inbound import Inbound
from relay.sandbox.outbound import Outbound
from relay.sandbox.people import People
from relay.sandbox.settings import Settings
from relay.sandbox.state import App, Number, Token, Waba, World, digits_of
from relay.sandbox.timers import Timers
from relay.sandbox.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Start:
    """What the command line decides. The defaults are the documented demo tenant."""

    seed: str = "relaydesk"
    verify: bool = True
    callback_url: str | None = None
    verify_token: str = defaults.VERIFY_TOKEN
    app_id: str = defaults.APP_ID
    app_secret: str = defaults.APP_SECRET
    access_token: str = defaults.ACCESS_TOKEN
    waba_id: str = defaults.WABA_ID
    phone_number_ids: tuple[str, ...] = defaults.PHONE_NUMBER_IDS
    customers: int = 0
    pace: float = 4.0
    """Mean seconds between two openings of customers."""
    settings: Settings = field(default_factory=Settings)


class Sandbox:
    def __init__(self, start: Start) -> None:
        self.start = start
        self.settings = Settings()
        self.settings.replace_by(start.settings)
        self.ids = Ids(start.seed)
        self.world = World(self.ids)
        self.timers = Timers()
        self.faults = Faults(start.seed)
        self.webhooks = Webhooks(self.world, self.settings, self.timers, start.seed, verify=start.verify)
        self.outbound = Outbound(
            self.world, self.settings, self.timers, self.webhooks, self.faults, start.seed
        )
        self.inbound = Inbound(self.world, self.settings, self.webhooks, self.outbound)
        self.people = People(self.world, self.inbound, start.seed)
        self.outbound.on_seen = self.people.saw
        self.unknown_calls: dict[str, int] = {}
        """Calls that the sandbox has no answer for, as "METHOD edge" → how often."""
        self.internal_errors = 0
        self._create_demo_tenant()

    def _create_demo_tenant(self) -> None:
        start = self.start
        app = App(start.app_id, start.app_secret, start.verify_token)
        waba = Waba(start.waba_id, defaults.WABA_NAME, defaults.PORTFOLIO_ID, {app.id: None})
        self.world.apps[app.id] = app
        self.world.wabas[waba.id] = waba
        for index, number_id in enumerate(start.phone_number_ids):
            if index < len(defaults.DISPLAY_PHONE_NUMBERS):
                display, name = defaults.DISPLAY_PHONE_NUMBERS[index], defaults.VERIFIED_NAMES[index]
            else:
                display, name = self.new_display_number(), defaults.WABA_NAME
            self.world.numbers[number_id] = Number(number_id, waba, display, name)
        self.world.tokens[start.access_token] = Token(start.access_token, app, {waba.id})

    async def open(self) -> None:
        """Start what needs a running event loop: verification and customers."""
        if self.start.callback_url is not None:
            self.set_callback(self.world.apps[self.start.app_id], self.start.callback_url)
        if self.start.customers:
            self.people.start(self.start.customers, self.start.pace)

    async def close(self) -> None:
        await self.people.stop()
        self.timers.cancel_all()
        await self.webhooks.close()

    def set_callback(self, app: App, url: str) -> None:
        """Give an app its callback and start its verification. ValueError if this is no http(s) URL."""
        check_url(url)
        app.callback_url = url
        self.webhooks.outlet(app, url, app.verify_token)

    def new_display_number(self) -> str:
        taken = {digits_of(number.display) for number in self.world.numbers.values()}
        return next(
            display for line in range(2030, 10_000) if digits_of(display := f"+1 555-010-{line}") not in taken
        )

    async def reset(self) -> None:
        """As if started anew, except that ids go on, so that no message id ever comes twice."""
        await self.people.stop()
        self.timers.cancel_all()
        await self.webhooks.close()
        self.webhooks.clear()
        self.faults.clear()
        self.world.clear()
        self.outbound.pairs.clear()
        self.outbound.throughput.clear()
        self.settings.replace_by(self.start.settings)
        self.unknown_calls.clear()
        self.internal_errors = 0
        self._create_demo_tenant()
        await self.open()
