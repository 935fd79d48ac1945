"""Why a workload yields what it yields, in words, with the evidence and the money."""
