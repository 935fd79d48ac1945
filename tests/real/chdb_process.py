"""Answers SQL with chdb, the current ClickHouse in a library, one JSON line each: `python chdb_process.py FOLDER`.

In: `{"database": ..., "sql": ...}` on standard input. Out: `{"rows": [...]}` or `{"error": ...}`. In a process and an
environment of its own, for it is half a gigabyte.
"""

import json
import sys
from typing import Any

from chdb.session import Session

session: Any = Session(sys.argv[1])
for line in sys.stdin:
    asked = json.loads(line)
    try:
        session.query(f"USE {asked['database']}")
        said = session.query(asked["sql"], "JSONCompactEachRow").bytes().decode()
        answer: dict[str, Any] = {"rows": [json.loads(row) for row in said.split("\n") if row]}
    except Exception as error:  # noqa: BLE001
        answer = {"error": str(error)[:2000]}
    print(json.dumps(answer), flush=True)
