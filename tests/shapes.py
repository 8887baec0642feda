"""The type checker with which tests run the torch rooms: shapes of arrays against their annotations (an int is a float)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
