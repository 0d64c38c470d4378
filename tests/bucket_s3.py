"""A bucket on this machine that speaks as much of Amazon S3's protocol as training in it needs."""

import hashlib
import os
import re
import xml.etree.ElementTree as ET
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from bucket import NAME, Bucket, Handler

KEY = "a-key"
_DATE = "2026-01-01T00:00:00.000Z"
_HTTP_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


class S3Bucket(Bucket):
    """Addressed as endpoint/bucket/name; requests that are not signed with KEY are refused."""

    scheme = "s3"

    def environment(self) -> dict[str, str]:
        """What a user of another endpoint than Amazon's sets; both libraries must follow it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.address,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_REGION": "eu-west-3",
            "AWS_DEFAULT_REGION": "eu-west-3",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


class S3Handler(Handler):
    """GET, HEAD, PUT, DELETE of objects, listing, deletion of many."""

    def _refusal(self):
        return self._error(403, "AccessDenied", "denied")

    def _route(self, path: str, query: dict, body: bytes):
        if f"Credential={KEY}/" not in self.headers.get("Authorization", ""):
            return self._refusal()
        query |= {k: v[0] for k, v in parse_qs(urlsplit(self.path).query, True).items()}
        found = re.fullmatch(rf"/{NAME}(?:/(.*))?", path)
        if found is None:
            return self._error(404, "NoSuchBucket", f"no {path}")
        name = unquote(found[1] or "")
        if name:
            return self._object(name, body)
        if "delete" in query:
            return self._delete_many(body)
        if "location" in query:
            return self._xml("LocationConstraint", "eu-west-3")
        if self.command == "HEAD":
            return self._answer(200, b"", {"x-amz-bucket-region": "eu-west-3"})
        return self._list(query)

    def _object(self, name: str, body: bytes):
        objects = self.bucket.objects
        if self.command == "PUT":
            return self._put(name, body)
        if self.command == "DELETE":
            objects.pop(name, None)
            return self._answer(204, b"")
        if name not in objects:
            return self._error(404, "NoSuchKey", f"no object {name}")
        content = objects[name][1]
        headers = {"ETag": _etag(content), "Last-Modified": _HTTP_DATE}
        if self.headers.get("If-None-Match") == headers["ETag"]:
            return self._answer(304, b"", headers)
        self._content(content, headers)

    def _put(self, name: str, body: bytes):
        there = self.bucket.objects.get(name)
        wanted = self.headers.get("If-Match")
        if wanted and (there is None or _etag(there[1]) != wanted):
            return self._error(412, "PreconditionFailed", "If-Match")
        if self.headers.get("If-None-Match") == "*" and there is not None:
            return self._error(412, "PreconditionFailed", "If-None-Match")
        self.bucket.put(name, body)
        return self._answer(200, b"", {"ETag": _etag(body)})

    def _delete_many(self, body: bytes):
        names = [e.text for e in ET.fromstring(body).iter() if e.tag.endswith("Key")]
        for name in names:
            self.bucket.objects.pop(name, None)
        gone = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
        return self._xml("DeleteResult", gone)

    def _list(self, query: dict):
        found = self.bucket.list(query.get("prefix", ""), query.get("delimiter", ""))
        coded = quote if query.get("encoding-type") == "url" else escape
        contents = "".join(
            f"<Contents><Key>{coded(o['name'])}</Key><LastModified>{_DATE}</LastModified>"
            f"<ETag>{escape(_etag(self.bucket.objects[o['name']][1]))}</ETag>"
            f"<Size>{o['size']}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for o in found["items"]
        )
        folders = "".join(
            f"<CommonPrefixes><Prefix>{coded(p)}</Prefix></CommonPrefixes>"
            for p in found["prefixes"]
        )
        count = len(found["items"]) + len(found["prefixes"])
        return self._xml(
            "ListBucketResult",
            f"<Name>{NAME}</Name><Prefix>{coded(query.get('prefix', ''))}</Prefix>"
            f"<KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{contents}{folders}",
        )

    def _error(self, status: int, code: str, message: str):
        return self._xml(
            "Error", f"<Code>{code}</Code><Message>{escape(message)}</Message>", status
        )

    def _xml(self, root: str, inside: str, status: int = 200):
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{inside}</{root}>'
        return self._answer(status, text.encode(), {"Content-Type": "application/xml"})


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'
