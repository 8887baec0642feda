"""What stands for a missing cell in the tables of other people."""

MISSING_TEXT = frozenset(
    {
        "", "na", "n/a", "n.a.", "nan", "null", "?", "#n/a", "#na", "<na>", "nat", ".", "..", "--", "...", "\u2026", "0000-00-00", "0000-00-00 00:00:00", "(blank)", "(null)", "\\n",
        "#value!", "#div/0!", "#ref!", "#name?", "#num!", "#null!", "#nv", "#n/d", "#n/b", "#wert!", "#bezug!", "#zahl!",
        "#valeur!", "#nom?", "#nombre!", "#¡valor!", "#¡ref!", "#¿nombre?", "#¡num!", "#¡div/0!", "#valore!", "#rif!", "#nome?",
    }
)  # fmt: skip
MISSING = MISSING_TEXT | {
    "none", "nil", "-", ":", "/", "*", "**", "\u2013", "\u2014", "missing", "unknown", "unk", "n.d.", "nd", "n.k.", "k.a.", "tbd",
    "not available", "not applicable", "keine angabe", "unbekannt", "n/d", "s/d", "inconnu", "desconocido",
}  # fmt: skip
"""In any case. In columns of text, where a dash or "unknown" may be a value, only `MISSING_TEXT`, and what the file's other columns have."""
LEVELS_AS_WELL = frozenset({"none", "nil", "not applicable", "nd", "*", "**"})
"""Of these, those that say nothing about another column of the same file."""
USUAL = frozenset({"", "na", "n/a", "nan", "null", "#n/a", "<na>", "nat"})
"""Of these, those that need not be said."""
