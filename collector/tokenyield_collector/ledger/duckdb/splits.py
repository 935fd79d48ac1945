"""How a whole is divided among rows, in SQL: always in integers, and always to the whole."""


def part(amount: str, lo: str, hi: str, den: str) -> str:
    """The part [lo, hi) of den of a whole; the parts sum to it. NULL where the whole is."""
    return f"({amount}::HUGEINT * {hi} // {den} - {amount}::HUGEINT * {lo} // {den})::BIGINT"


def shares(amount: str, among: str, order: str) -> str:
    """Columns `upto`, `whole` and `place` of rows that share something by `amount` among the rows of one `among`."""
    ordered = f"PARTITION BY {among} ORDER BY {order}"
    return (
        f"sum({amount}) OVER ({ordered}) AS upto, sum({amount}) OVER (PARTITION BY {among}) AS whole, "
        f"row_number() OVER ({ordered}) AS place"
    )


def span(amount: str) -> str:
    """Columns `lo`, `hi` and `den` of rows with `shares`; where no row has any amount, the first has the whole."""
    return (
        f"CASE WHEN whole > 0 THEN upto - {amount} WHEN place = 1 THEN 0 ELSE 1 END AS lo, "
        "CASE WHEN whole > 0 THEN upto ELSE 1 END AS hi, CASE WHEN whole > 0 THEN whole ELSE 1 END AS den"
    )
