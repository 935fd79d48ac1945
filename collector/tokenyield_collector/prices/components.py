"""What a cost consists of: its components, which sum to it. Pure.

`hardware` is the price of owned hardware written off over its life (amortization), `rent` what rented capacity costs by
the hour or upfront; one of the two is the hardware component of a pool. `capital` is the interest on owned hardware,
`maintenance` includes what comes every year, `facility` is space and building, `host` the energy of the servers around
the GPUs, `energy` that of the GPUs themselves, `purchase` what is bought ready-made (tokens of a vendor).
"""

COMPONENTS = ("hardware", "rent", "capital", "maintenance", "facility", "host", "energy", "purchase")
COMPONENT_AT = {name: i for i, name in enumerate(COMPONENTS)}
OWNERSHIP = {"hardware": "owned", "rent": "rented"}
"""Component that pays for the hardware itself -> whose that hardware is."""
POWER_BILL = ("energy", "host")
"""Components that are energy: of GPUs and their hosts, PUE included."""
COMPONENT_OF_PART = {
    "depreciation": "hardware",
    "financing": "capital",
    "maintenance": "maintenance",
    "yearly": "maintenance",
    "rent": "rent",
    "upfront": "rent",
    "facility": "facility",
    "host_energy": "host",
}
"""Part of a rate (`rates.py`) -> the component that it belongs to."""
