"""Which file builds which facade. The same names as `policy.FACADES`."""

from __future__ import annotations

from typing import Final

from sandbox.facades import (
    collections_,
    dataclasses_,
    datetime_,
    decimal_,
    encodings_,
    functools_,
    itertools_,
    json_,
    math_,
    random_,
    re_,
    statistics_,
    text_,
    time_,
    typing_,
)
from sandbox.facades.base import Builder

BUILDERS: Final[dict[str, Builder]] = {
    "base64": encodings_.build_base64,
    "collections": collections_.build,
    "collections.abc": collections_.build_abc,
    "dataclasses": dataclasses_.build,
    "datetime": datetime_.build,
    "decimal": decimal_.build,
    "functools": functools_.build,
    "hashlib": encodings_.build_hashlib,
    "hmac": encodings_.build_hmac,
    "itertools": itertools_.build,
    "json": json_.build,
    "math": math_.build,
    "random": random_.build,
    "re": re_.build,
    "statistics": statistics_.build,
    "string": text_.build_string,
    "textwrap": text_.build_textwrap,
    "time": time_.build,
    "typing": typing_.build,
    "urllib.parse": encodings_.build_urllib_parse,
    "uuid": encodings_.build_uuid,
}
