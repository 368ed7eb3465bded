"""Phone numbers for people. Meta gives them as digits with the country code and without a plus (`wa_id`)."""

import phonenumbers


def display(wa_id: str) -> str:
    """As one writes it internationally, `+49 30 901820`; digits that are no number just get their plus."""
    written = "+" + wa_id.removeprefix("+")
    try:
        number = phonenumbers.parse(written)
    except phonenumbers.NumberParseException:
        return written
    if not phonenumbers.is_possible_number(number):
        return written
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
