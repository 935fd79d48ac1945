"""Stand-ins of the vendors' APIs on loopback, from their published shapes: paging, restatement, 429, outages, keys.

A stand-in has the truth by day and report; tests change it, or how it answers. It checks what it is sent as the vendor
would: the key, the parameters, the pages.
"""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "sk-secret-admin-key-1"
Rows = dict[tuple[str, date], list[dict[str, Any]]]
"""(report, day) -> rows as the vendor gives them."""
HtmlPage = b"<!doctype html><html><body>Log in</body></html>"


class Refusal(Exception):
    def __init__(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"{}") -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers or {}, body


class Vendors:
    """All of them on one port; `before` may refuse an exchange: it is called with the path."""

    def __init__(self) -> None:
        self.rows: Rows = {}
        self.page_rows = 2
        self.before: Callable[[str], None] = lambda path: None
        self.asked: Counter[str] = Counter()
        self.sent: list[tuple[str, str, dict[str, str]]] = []
        """(method, path with query, headers)"""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: dict[str, Any]) -> None:
                parts = urlsplit(self.path)
                stand_in.asked[parts.path] += 1
                headers = {name.lower(): value for name, value in self.headers.items()}
                stand_in.sent.append((self.command, self.path, headers))
                try:
                    stand_in.before(parts.path)
                    document = stand_in.answer(self.command, parts.path, parse_qs(parts.query), headers, body)
                    status, more, content = 200, {"Content-Type": "application/json"}, document
                except Refusal as refusal:
                    status, more, content = refusal.status, refusal.headers, refusal.body
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                with suppress(OSError):  # the collector was killed
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- what they answer ----------------------------------------------------------------------------------------

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], headers: dict[str, str], body: dict[str, Any]
    ) -> bytes:
        if path.startswith("/files/"):
            if "authorization" in headers:
                raise Refusal(400, body=b"a signed link takes no key")
            _, _, name, day = path.split("/")
            return b"\n".join(json.dumps(row).encode() for row in self.rows.get((name, date.fromisoformat(day)), []))
        if headers.get("x-api-key", headers.get("authorization", "")) not in (KEY, f"Bearer {KEY}", _basic(KEY)):
            raise Refusal(401)
        if path.startswith("/v1/organizations/"):
            return self._anthropic(path.removeprefix("/v1/organizations/"), query, headers)
        if path.startswith("/v1/organization/"):
            return self._openai(path.removeprefix("/v1/organization/"), query)
        return json.dumps(self._others(method, path, query, body)).encode()

    def _anthropic(self, report: str, query: dict[str, list[str]], headers: dict[str, str]) -> bytes:
        if headers["anthropic-version"] != "2023-06-01":
            raise Refusal(400)
        first = date.fromisoformat(query["starting_at"][0][:10])
        if report == "usage_report/claude_code":
            return self._page(list(self.rows.get((report, first), [])), query)
        end = date.fromisoformat(query["ending_at"][0][:10])
        if (end - first).days > 31 or query.get("time_bucket_width", query.get("bucket_width")) != ["1d"]:
            raise Refusal(400)
        if report.startswith("analytics/"):
            if headers.get("anthropic-beta") != "analytics-usage-cost-2026-08-24":
                raise Refusal(404)
            if (
                len(set(query["group_by[]"]) - {"cost_type", "token_type"}) > 5
                or "rbac_group_id" in query["group_by[]"]
            ):
                raise Refusal(400)
            rows = [{**_bounds(day), **row} for day in _days(first, end) for row in self.rows.get((report, day), [])]
            return self._page(rows, query)
        return self._page([{**_bounds(day), "results": self.rows.get((report, day), [])} for day in _days(first, end)],
                          query)  # fmt: skip

    def _openai(self, report: str, query: dict[str, list[str]]) -> bytes:
        first, end = (datetime.fromtimestamp(int(query[name][0]), UTC).date() for name in ("start_time", "end_time"))
        if (end - first).days > 31 or query["bucket_width"] != ["1d"]:
            raise Refusal(400)
        buckets = [
            {"object": "bucket", "start_time": _unix(day), "end_time": _unix(day + timedelta(1)),
             "results": self.rows.get((report, day), [])}
            for day in _days(first, end)
        ]  # fmt: skip
        return self._page(buckets, query)

    def _page(self, rows: list[Any], query: dict[str, list[str]]) -> bytes:
        """`page_rows` at once, whatever limit is asked for: a vendor may give fewer."""
        start = int(query.get("page", ["0"])[0])
        end = start + min(self.page_rows, int(query["limit"][0]))
        more = end < len(rows)
        return json.dumps({"data": rows[start:end], "has_more": more, "next_page": str(end) if more else None}).encode()

    def _others(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> Any:
        if path == "/api/v1/activity":
            return {"data": self.rows.get(("activity", date.fromisoformat(query["date"][0])), [])}
        if path == "/spend/logs/v2":
            first = date.fromisoformat(query["start_date"][0][:10])
            rows = self.rows.get(("logs", first), []) + self.rows.get(("logs", first + timedelta(1)), [])[:1]
            return self._numbered(rows, int(query["page"][0]), "data")
        if path == "/teams/filtered-usage-events" and method == "POST":
            day = datetime.fromtimestamp(body["startDate"] / 1000, UTC).date()
            page = self._numbered(self.rows.get(("events", day), []), body["page"], "usageEvents")
            return page | {"pagination": {"hasNextPage": page["page"] < page["total_pages"]}}
        if path == "/organizations/acme/settings/billing/ai_credit/usage":
            year, month, number = (int(query[name][0]) for name in ("year", "month", "day"))
            items = self.rows.get(("credits", date(year, month, number)), [])
            return {"timePeriod": {"year": year, "month": month, "day": number}, "organization": "acme",
                    "usageItems": items}  # fmt: skip
        if path == "/orgs/acme/copilot/metrics/reports/users-1-day":
            day = date.fromisoformat(query["day"][0])
            return {"download_links": [f"{self.url}/files/users/{day}", f"{self.url}/files/more/{day}"],
                    "report_day": f"{day}"}  # fmt: skip
        if path == "/costs":
            rows = self.rows.get(("json", date.fromisoformat(query["from"][0])), [])
            start = int(query.get("cursor", ["0"])[0])
            after = start + self.page_rows
            return {"result": {"items": rows[start:after], "cursor": str(after) if after < len(rows) else None}}
        raise Refusal(404)

    def _numbered(self, rows: list[Any], page: int, name: str) -> dict[str, Any]:
        pages = -(-len(rows) // self.page_rows)
        start = (page - 1) * self.page_rows
        return {name: rows[start : start + self.page_rows], "total": len(rows), "page": page, "total_pages": pages}


def _basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()


def _days(first: date, end: date) -> Iterator[date]:
    return (first + timedelta(i) for i in range((end - first).days))


def _bounds(day: date) -> dict[str, str]:
    return {"starting_at": f"{day}T00:00:00Z", "ending_at": f"{day + timedelta(1)}T00:00:00Z"}


def _unix(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


@contextmanager
def vendors_on_loopback() -> Iterator[Vendors]:
    stand_in = Vendors()
    stand_in.start()
    try:
        yield stand_in
    finally:
        stand_in.close()
