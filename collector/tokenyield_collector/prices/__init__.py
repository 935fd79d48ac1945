"""The price book: what hardware, facility and energy cost, what tokens are sold for, and when which price held."""
