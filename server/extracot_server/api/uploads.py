"""Multipart forms with one file, parsed as they arrive: fields in memory, the file to ``sink``.

The form as a whole is bounded, so are the fields; python-multipart splits it. Knows nothing of
what the fields mean.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from extracot_server.errors import InvalidRequestError

_MOST_FIELDS = 16
_FIELD_BYTES = 1024
_HEADER_BYTES = 4096
_FILE = "file"
_CONTROL = dict.fromkeys(range(32), "?") | {127: "?"}
Sink = Callable[[bytes], None]


def _invalid(message: str, field: str | None = None) -> InvalidRequestError:
    return InvalidRequestError(message, param=field)


@dataclass(slots=True)
class Form:
    """What was read besides the file's bytes, which went to the sink."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


@dataclass(slots=True)
class _Reader:
    """Receives the parser's events."""

    sink: Sink
    form: Form = field(default_factory=Form)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytes = b""
    header_value: bytes = b""
    name: str = ""
    value: bytearray = field(default_factory=bytearray)
    ended: bool = False

    def begin(self) -> None:
        self.headers, self.name = {}, ""
        self.value.clear()

    def on_name(self, data: bytes, start: int, end: int) -> None:
        self.header_name += data[start:end]
        self._bound_header()

    def on_value(self, data: bytes, start: int, end: int) -> None:
        self.header_value += data[start:end]
        self._bound_header()

    def header(self) -> None:
        self.headers[self.header_name.lower()] = self.header_value
        self.header_name = self.header_value = b""
        if len(self.headers) > _MOST_FIELDS:
            raise _invalid("A part of the form has too many headers.")

    def headed(self) -> None:
        kind, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        if kind != b"form-data" or not options.get(b"name"):
            raise _invalid("Each part of the form needs `Content-Disposition: form-data; name=…`.")
        self.name = options[b"name"].decode("utf-8", "replace")[:_FIELD_BYTES]
        if self.name == _FILE:
            if self.form.filename is not None:
                raise _invalid("`file` is given twice.", _FILE)
            if b"filename" not in options:
                raise _invalid("`file` must be a file: give it a filename.", _FILE)
            name = options[b"filename"].decode("utf-8", "replace").translate(_CONTROL)
            self.form.filename = name[:255] or "file"
        elif self.name in self.form.fields:
            raise _invalid(f"`{self.name}` is given twice.", self.name)
        elif len(self.form.fields) >= _MOST_FIELDS:
            raise _invalid(f"The form has more than {_MOST_FIELDS} fields.")

    def data(self, data: bytes, start: int, end: int) -> None:
        if self.name == _FILE:
            self.sink(data[start:end])
        else:
            self.value += data[start:end]
            if len(self.value) > _FIELD_BYTES:
                raise _invalid(f"`{self.name}` is longer than {_FIELD_BYTES} bytes.", self.name)

    def end_part(self) -> None:
        if self.name != _FILE:
            self.form.fields[self.name] = self.value.decode("utf-8", "replace")

    def end(self) -> None:
        self.ended = True

    def _bound_header(self) -> None:
        if len(self.header_name) + len(self.header_value) > _HEADER_BYTES:
            raise _invalid(f"A part of the form has a header of more than {_HEADER_BYTES} bytes.")


async def read_form(
    content_type: str,
    stream: AsyncIterator[bytes],
    sink: Sink,
    most_bytes: int,
    too_large: Callable[[], Exception],
) -> Form:
    """Read a form to its end. Raises what ``sink`` raises, ``too_large`` beyond ``most_bytes``,
    and :class:`InvalidRequestError` for what is no form."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 70:
        raise _invalid(
            "Send the file as a form: `Content-Type: multipart/form-data; boundary=…`.",
            "content-type",
        )
    reader = _Reader(sink)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": reader.begin,
            "on_part_data": reader.data,
            "on_part_end": reader.end_part,
            "on_header_field": reader.on_name,
            "on_header_value": reader.on_value,
            "on_header_end": reader.header,
            "on_headers_finished": reader.headed,
            "on_end": reader.end,
        },
    )
    size = 0
    try:
        async for part in stream:
            size += len(part)
            if size > most_bytes:
                raise too_large()
            parser.write(part)
        parser.finalize()
    except FormParserError as error:
        raise _invalid(f"The form is broken: {error}.") from None
    if not reader.ended:
        raise _invalid("The form ends before its last boundary.")
    return reader.form


def only(fields: Mapping[str, str], known: frozenset[str]) -> None:
    """Refuse a field that is not known."""
    for name in fields:
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise InvalidRequestError.of(
                name[:64], f"is not known here. Allowed: {allowed}.", "unsupported_parameter"
            )
