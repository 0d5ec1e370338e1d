import datetime as dt
import json
import uuid

MOST_MINOR = 10**12


def parse(text, **given):
    """The values of an invoice's row; ValueError says what is wrong with them."""
    try:
        values = json.loads(text or '')
    except ValueError:
        raise ValueError('this is not JSON') from None
    if not isinstance(values, dict):
        raise ValueError('this is not a JSON object')
    values = {**values, **given}
    if values.keys() != {'id', 'customer', 'due', 'total_minor'}:
        raise ValueError('an invoice has a customer, a due date and total_minor')
    customer, total = values['customer'], values['total_minor']
    if not isinstance(customer, str) or not customer.isprintable() or not 1 <= len(customer) <= 255:
        raise ValueError('customer is not a text of 1 to 255 characters')
    if type(total) is not int or not 0 < total <= MOST_MINOR:
        raise ValueError('total_minor is not a whole number above 0')
    return {
        'id': uuid.UUID(str(values['id'])),
        'customer': customer,
        'due': dt.date.fromisoformat(str(values['due'])),
        'total_minor': total,
    }
