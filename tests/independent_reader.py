#!/usr/bin/env python3
"""The trace file's second specification: reads a trace with none of tapedeck's code.

Python's standard library, the stock `zstd` and `capnp` programs, and schema/trace.capnp are all
that it uses. What it computes must equal what `analyze` computes; where the two differ, one of
them has the format wrong.

The file, from the outside in:

1. Frames. A trace is a row of frames. Each is a zstd skippable frame that holds a header, followed
   by the payload: `parts` parts, each of one or several ordinary zstd frames. All numbers are little-endian.

       0   4  0x184D2A5A, one of zstd's magic numbers for frames that it skips
       4   4  bytes that follow in the skippable frame: 60 + 12 * parts
       8   8  "tapedeck"
      16   1  kind: 1 host, 2 tables, 3 clock, 4 identity, 5 events, 6 stats, 7 checkpoint, 8 footer
      17   1  0
      18   2  parts
      20   2  table number
      22   2  stream: the ring, or 65535 for the recorder itself
      24   4  rows
      28   4  epoch
      32   8  sequence number in the stream: 0, 1, 2, ...; a gap is a lost frame
      40   8  smallest `ts` of the rows
      48   8  largest `ts` of the rows
      56   8  rows of this table and stream in all frames before
      64  12  per part: u16 column (65535: all), u16 0, u32 stored bytes, u32 raw bytes
       .   4  CRC-32C (Castagnoli, reflected) of everything from offset 8 to here

   A clean end is a footer frame and then one more skippable frame, the trailer: the magic, 16,
   "tapeends", and the file offset of the footer frame. One file is one trace: nothing of a second
   trace that was appended to it is read.

2. Messages. Every part decompresses to exactly `raw` bytes: one Cap'n Proto message, root `Frame`.
   A batch of less than some rows is one message with all its columns; above, each column is a
   message of its own, and all of them share the header.

3. Byte planes. `Numbers.planes` holds rows * n bytes: the lowest byte of every row, then the second
   byte of every row, and so on. Missing high bytes are zero: that gives one number x per row. Where bit p of
   `sorted` is set, plane p holds its bytes sorted by the byte that the row has in plane p + 1; rows with the same
   one stay in their order.

4. Transforms, all modulo 2^width of the column (text: 32 bits, for lengths and codes):

       offset    value = base + x
       delta     value = value of the row before + unzigzag(x); before the first row: base
       deltaBy   value = value of the last row with the same key + unzigzag(x); base where the key is new.
                 The key is the value of column `by` in the same row.
       apart     as deltaBy, but the planes hold the rows whose key is new first (`newPlanes` planes, value =
                 base + x), then all others (value = value of the last row with the same key + unzigzag(x)), and
                 `sorted` is about the planes of those.
       span      value = value of the row before + unzigzag(x) + value of column `by`; before the first row: base
       unzigzag  0, 1, 2, 3, 4 ... mean 0, -1, 1, -2, 2 ...

5. Text. Without `entries`, the numbers are the lengths of the values and `bytes` is the values,
   one after the other. With `entries`, `bytes` is a dictionary of `entryCount` entries whose
   lengths `entries` holds, and the numbers say which entry each row has. An ip is text of 16 bytes.

6. Meaning. Signed columns are two's complement. With `hasNull`, the number that equals `null`
   (compared before the sign is given to it) stands for "not known".

Output: one JSON object with, per table, its rows and per column: sum (modulo 2^64), min, max and
nulls of numbers (sum, min and max leave the nulls out); count, bytes and CRC-32C of text. That
checksum is over the length (u32) and the bytes of each value in file order, so that it also
depends on where a value ends.

Exit status: 0; 1 this is no trace, or not one for us; 2 usage; 3 damaged: what is wrong is on
standard error and in the output, the rest is still there.
"""

import argparse
import ipaddress
import itertools
import json
import os
import pathlib
import re
import struct
import subprocess
import sys

SCHEMA = pathlib.Path(__file__).resolve().parent.parent / "schema" / "trace.capnp"
FORMAT = 1
MAGIC = 0x184D2A5A
HEADER = struct.Struct("<II8sBBHHHIIQQQQ")
PART = struct.Struct("<HHII")
SYNC, END = b"tapedeck", b"tapeends"
MAX_PARTS, MAX_ROWS, MAX_PAYLOAD = 1024, 1 << 22, 64 << 20
HOST, TABLES, CHECKPOINT, FOOTER = 1, 2, 7, 8
ROWS = (3, 4, 5, 6)
NAMES = {1: "host", 2: "tables", 3: "batch", 4: "batch", 5: "batch", 6: "batch", 7: "checkpoint", 8: "footer"}
WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "text": 4, "ip": 4}
CHUNK = 8 << 20


class Bad(Exception):
    """What is wrong with the trace."""


class Unusable(Exception):
    """Why nothing can be said about the file."""


# ---- checksum ----


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC = crc_table()


def crc32c(data, crc=0):
    """CRC-32C of data; crc is that of what came before."""
    table, crc = CRC, crc ^ 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


# ---- frames ----


class Frame:
    """A header whose checksum is right, and where its payload is."""

    def __init__(self, data, offset):
        if len(data) - offset < HEADER.size:
            raise Bad("expected a header")
        fields = HEADER.unpack_from(data, offset)
        magic, length, sync, self.kind, _, parts, self.table, self.stream, self.rows = fields[:9]
        self.epoch, self.sequence, self.min_time, self.max_time, self.rows_before = fields[9:]
        if magic != MAGIC or sync != SYNC or parts > MAX_PARTS or length != 60 + 12 * parts:
            raise Bad("expected a header")
        self.offset, self.payload = offset, offset + 8 + length
        if self.payload > len(data):
            raise Bad("a header is cut")
        (stored,) = struct.unpack_from("<I", data, self.payload - 4)
        if crc32c(data[offset + 8 : self.payload - 4]) != stored:
            raise Bad("the checksum of a header is wrong")
        self.parts = [PART.unpack_from(data, offset + 64 + 12 * part) for part in range(parts)]
        self.end = self.payload + sum(part[2] for part in self.parts)
        payload = max(self.end - self.payload, sum(part[3] for part in self.parts))
        if self.rows > MAX_ROWS or payload > MAX_PAYLOAD:
            raise Bad("a frame is larger than frames can be")
        if self.end > len(data):
            raise Bad("a frame is cut")


class Walk:
    """Every frame that is there, in order, and the places where none could be read."""

    def __init__(self, data):
        self.frames, self.damage, self.ended = [], [], False
        self.next = {}
        self.damage_end = None
        offset = 0
        while offset < len(data):
            try:
                frame = Frame(data, offset)
                if frame.kind == HOST and any(other.kind == HOST for other in self.frames):
                    offset = self.skip(offset, len(data), "another trace begins here")
                elif frame.sequence < self.next.get(frame.stream, 0):
                    offset = self.skip(offset, frame.end, "a frame again, or out of order")
                else:
                    offset = self.take(frame)
            except Bad as error:
                if self.is_trailer(data, offset):
                    self.ended = True
                    offset += 24
                    if offset < len(data):
                        offset = self.skip(offset, len(data), "bytes behind the end of the trace")
                else:
                    offset = self.skip(offset, find_header(data, offset + 1), str(error))

    def take(self, frame):
        expected = self.next.get(frame.stream, 0)
        if frame.sequence > expected:
            lost = frame.sequence - expected
            self.damage.append(f"byte {frame.offset}: {lost} frames of stream {frame.stream} are missing before it")
        self.next[frame.stream] = frame.sequence + 1
        self.frames.append(frame)
        return frame.end

    def skip(self, offset, end, why):
        if self.damage_end != offset:
            self.damage.append(f"byte {offset}: {why}")
        self.damage_end = end
        return end

    def is_trailer(self, data, offset):
        if not self.frames or self.frames[-1].kind != FOOTER:
            return False
        return data[offset : offset + 24] == struct.pack("<II8sQ", MAGIC, 16, END, self.frames[-1].offset)


def find_header(data, offset):
    mark = re.compile(re.escape(struct.pack("<I", MAGIC)) + b"...." + SYNC, re.DOTALL)
    found = mark.search(data, offset)
    return found.start() if found else len(data)


# ---- messages ----


def run(command, given):
    """Output of a program, or Bad with what it said."""
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
        raise Bad(f"{command[0]}: {lines[-1]}")
    return done.stdout


def decode_all(data, parts):
    """The messages of [(offset, stored, raw)], in as few processes as possible."""
    raw = run(["zstd", "-dcq"], b"".join(data[at : at + stored] for at, stored, _ in parts))
    if len(raw) != sum(part[2] for part in parts):
        raise Bad("a message is not as long as its header says")
    text = run(["capnp", "convert", "--short", "binary:json", str(SCHEMA), "Frame"], raw).decode()
    messages = [json.loads(line) for line in text.splitlines() if line]
    if len(messages) != len(parts):
        raise Bad(f"{len(parts)} payload parts hold {len(messages)} messages")
    return messages


def messages(data, frames, damage):
    """(frame, its messages) for each frame whose messages are all good."""
    for chunk in chunks(frames):
        parts = [part_places(frame) for frame in chunk]
        try:
            decoded = iter(decode_all(data, list(itertools.chain(*parts))))
            yield from ((frame, [next(decoded) for _ in places]) for frame, places in zip(chunk, parts))
        except Bad:
            for frame, places in zip(chunk, parts):
                try:
                    each = [decode_all(data, [place])[0] for place in places]
                except Bad as error:
                    damage.append(f"byte {frame.payload}: {error}")
                else:
                    yield frame, each


def chunks(frames):
    chunk, size = [], 0
    for frame in frames:
        chunk.append(frame)
        size += sum(part[3] for part in frame.parts)
        if size > CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def part_places(frame):
    places, at = [], frame.payload
    for _, _, stored, raw in frame.parts:
        places.append((at, stored, raw))
        at += stored
    return places


# ---- columns ----


def planes(data, rows, by_above=0):
    """One unsigned number per row."""
    count = len(data) // rows if rows else 0
    if count * rows != len(data) or count > 8 or by_above >> max(count - 1, 0):
        raise Bad(f"{len(data)} bytes of planes for {rows} rows")
    if count == 0:
        return [0] * rows
    wide = bytearray(8 * rows)
    for plane in reversed(range(count)):
        stored = data[plane * rows : (plane + 1) * rows]
        if by_above >> plane & 1:
            order = sorted(range(rows), key=wide[plane + 1 :: 8].__getitem__)
            for row, byte in zip(order, stored):
                wide[8 * row + plane] = byte
        else:
            wide[plane::8] = stored
    return list(struct.unpack(f"<{rows}Q", wide))


def unzigzag(values):
    return [value >> 1 ^ -(value & 1) for value in values]


def numbers_of(numbers, rows, width, columns):
    """The values, unsigned; columns holds those decoded before."""
    mask = (1 << 8 * width) - 1
    data, base, by_above = bytes(numbers.get("planes", [])), int(numbers["base"]), numbers["sorted"]
    if numbers["transform"] == "apart" and numbers["by"] in columns:
        return apart_of(data, base, (numbers["newPlanes"], by_above), columns[numbers["by"]], mask)
    values = planes(data, rows, by_above)
    if numbers["transform"] == "offset":
        return [value + base & mask for value in values] if base else values
    if numbers["transform"] == "delta":
        sums = itertools.accumulate(unzigzag(values), initial=base)
        return [value & mask for value in itertools.islice(sums, 1, None)]
    if numbers["transform"] == "span" and numbers["by"] in columns:
        steps = (x + span for x, span in zip(unzigzag(values), columns[numbers["by"]]))
        return [value & mask for value in itertools.islice(itertools.accumulate(steps, initial=base), 1, None)]
    if numbers["transform"] != "deltaBy" or numbers["by"] not in columns:
        raise Bad(f"a transform without its key: {numbers['transform']}")
    last, result = {}, []
    for key, value in zip(columns[numbers["by"]], unzigzag(values)):
        last[key] = value = last.get(key, base) + value & mask
        result.append(value)
    return result


def apart_of(data, base, how, keys, mask):
    """Differences by key, those of new keys stored before all others."""
    new_planes, by_above = how
    new_rows = len(set(keys))
    split = new_rows * new_planes
    new = iter(planes(data[:split], new_rows))
    others = iter(unzigzag(planes(data[split:], len(keys) - new_rows, by_above)))
    last, result = {}, []
    for key in keys:
        last[key] = (last[key] + next(others) if key in last else base + next(new)) & mask
        result.append(last[key])
    return result


def text_of(column, rows):
    """The values as bytes."""
    first = numbers_of(column["numbers"], rows, 4, {})
    data = bytes(column.get("bytes", []))
    if "entries" not in column:
        return cut(data, first)
    entries = cut(data, numbers_of(column["entries"], column["entryCount"], 4, {}))
    if first and max(first) >= len(entries):
        raise Bad("a row names an entry that the dictionary does not have")
    return [entries[code] for code in first]


def cut(data, lengths):
    ends = list(itertools.accumulate(lengths, initial=0))
    if ends[-1] != len(data):
        raise Bad(f"text of {len(data)} bytes whose lengths add up to {ends[-1]}")
    return [data[start:end] for start, end in zip(ends, ends[1:])]


def batch_of(table, frame, decoded):
    """Column index to values: unsigned numbers or bytes."""
    found, columns = [], {}
    for message in decoded:
        batch = message.get("batch")
        if batch is None or batch["table"] != frame.table or batch["rows"] != frame.rows:
            raise Bad("a message is not what its header announces")
        found += batch.get("columns", [])
    found.sort(key=lambda column: column["numbers"]["transform"] in ("deltaBy", "apart", "span"))
    for column in found:
        if column["index"] >= len(table["columns"]):
            continue
        info = table["columns"][column["index"]]
        if info["type"] in ("text", "ip"):
            values = text_of(column, frame.rows)
        else:
            values = numbers_of(column["numbers"], frame.rows, WIDTHS[info["type"]], columns)
        columns[column["index"]] = values
    return columns


def signed(values, info):
    """The numbers as the column's type means them."""
    if not info["type"].startswith("i"):
        return values
    half = 1 << 8 * WIDTHS[info["type"]] - 1
    return [value - 2 * half if value >= half else value for value in values]


# ---- results ----


class Summary:
    """What is said about one column."""

    def __init__(self, info):
        self.info = info
        self.null = int(info["null"]) if info["hasNull"] else None
        self.result = {"count": 0, "bytes": 0, "crc32c": 0} if self.is_text() else {"sum": 0, "nulls": 0}

    def is_text(self):
        return self.info["type"] in ("text", "ip")

    def add(self, values):
        result = self.result
        if self.is_text():
            joined = b"".join(part for value in values for part in (len(value).to_bytes(4, "little"), value))
            result["count"] += len(values)
            result["bytes"] += len(joined) - 4 * len(values)
            result["crc32c"] = crc32c(joined, result["crc32c"])
            return
        known = values if self.null is None else [value for value in values if value != self.null]
        result["nulls"] += len(values) - len(known)
        known = signed(known, self.info)
        if known:
            result["sum"] = (result["sum"] + sum(known)) % (1 << 64)
            result["min"] = min(known) if "min" not in result else min(result["min"], min(known))
            result["max"] = max(known) if "max" not in result else max(result["max"], max(known))


class Trace:
    """A whole trace: tables, and what went wrong."""

    def __init__(self, data):
        self.data, walk = data, Walk(data)
        self.frames, self.damage, self.ended = walk.frames, walk.damage, walk.ended
        if not self.frames:
            raise Unusable(f"not a tapedeck trace: no frame header in {len(data)} bytes")
        self.host = self.single(HOST, {})
        self.tables = self.single(TABLES, [])
        for table in self.tables:
            table.setdefault("columns", [])
        if self.host.get("requiredReader", 0) > FORMAT:
            raise Unusable(f"this trace needs a reader of format {self.host['requiredReader']}, this is {FORMAT}")

    def single(self, kind, otherwise):
        """The content of the first frame of a kind."""
        first = [frame for frame in self.frames if frame.kind == kind][:1]
        for _, decoded in messages(self.data, first, self.damage):
            return decoded[0].get(NAMES[kind], otherwise) if decoded else otherwise
        return otherwise

    def batches(self, wanted=None):
        """(table, columns, rows) of each frame that can be read."""
        frames = [frame for frame in self.frames if frame.kind in ROWS]
        if wanted is not None:
            frames = [frame for frame in frames if frame.table == wanted]
        for frame, decoded in messages(self.data, frames, self.damage):
            try:
                if frame.table >= len(self.tables):
                    raise Bad(f"rows of table {frame.table}, which is not defined")
                table = self.tables[frame.table]
                columns = batch_of(table, frame, decoded)
                self.check_time(table, frame, columns)
                yield table, columns, frame.rows
            except Bad as error:
                self.damage.append(f"byte {frame.offset}: {error}")

    def check_time(self, table, frame, columns):
        times = [columns.get(at, []) for at, info in enumerate(table["columns"]) if info["name"] == "ts"]
        if times and times[0] and (min(times[0]), max(times[0])) != (frame.min_time, frame.max_time):
            self.damage.append(f"byte {frame.offset}: the header's times are not those of the rows")

    def check_index(self):
        """Every checkpoint lists the frames since the one before, and points back to it."""
        found = [frame for frame in self.frames if frame.kind == CHECKPOINT]
        previous = 0
        for frame, decoded in messages(self.data, found, self.damage):
            checkpoint = decoded[0].get("checkpoint", {})
            listed = [(int(entry["offset"]), int(entry["length"])) for entry in checkpoint.get("frames", [])]
            there = [(one.offset, one.end - one.offset) for one in self.frames if previous <= one.offset < frame.offset]
            if int(checkpoint.get("previous", -1)) != previous or listed != there:
                self.damage.append(f"byte {frame.offset}: the checkpoint does not list the frames before it")
            previous = frame.offset

    def check_footer(self, rows):
        footer = self.single(FOOTER, {})
        for absent in footer.get("absent", []):
            if absent["first"] > absent["last"] or int(absent["from"]) > int(absent["to"]):
                self.damage.append(f"the footer lacks parts that end before they begin: {absent}")
        for total in footer.get("tables", []):
            name = self.tables[total["table"]]["name"] if total["table"] < len(self.tables) else total["table"]
            if int(total["rows"]) != rows.get(name, 0):
                self.damage.append(f"table {name}: {rows.get(name, 0)} rows are there, the footer counted {total['rows']}")

    def summary(self):
        tables = {}
        for table in self.tables:
            columns = {info["name"]: Summary(info) for info in table["columns"]}
            tables[table["name"]] = {"rows": 0, "columns": columns}
        sends = {"calls": 0, "bytes": 0}
        for table, columns, rows in self.batches():
            of_table = tables[table["name"]]
            of_table["rows"] += rows
            for index, values in columns.items():
                info = table["columns"][index]
                of_table["columns"][info["name"]].add(values)
                if (table["name"], info["name"]) == ("sock_send", "ret"):
                    sends["calls"] += rows
                    sends["bytes"] += sum(value for value in signed(values, info) if value > 0)
        if not self.damage:
            self.check_index()
        self.check_footer({name: table["rows"] for name, table in tables.items()})
        for table in tables.values():
            table["columns"] = {name: column.result for name, column in table["columns"].items()}
        return {"ended": self.ended, "tables": tables, "sock_send": sends, "damage": self.damage}

    def print_rows(self, name):
        numbers = [table["number"] for table in self.tables if table["name"] == name]
        if not numbers:
            raise Unusable(f"the trace has no table {name}")
        for table, columns, rows in self.batches(numbers[0]):
            names = [table["columns"][index]["name"] for index in sorted(columns)]
            shown = [show(columns[index], table["columns"][index]) for index in sorted(columns)]
            for row in zip(*shown) if shown else [()] * rows:
                print(json.dumps(dict(zip(names, row)), ensure_ascii=False))


def show(values, info):
    """The values as they are printed."""
    if info["type"] == "text":
        return [value.decode(errors="backslashreplace") for value in values]
    if info["type"] == "ip":
        return [show_ip(value) for value in values]
    null = int(info["null"]) if info["hasNull"] else None
    pairs = zip(values, signed(values, info))
    return [None if raw == null else value for raw, value in pairs]


def show_ip(value):
    address = ipaddress.IPv6Address(value)
    return str(address.ipv4_mapped or address)


def main():
    parser = argparse.ArgumentParser(description="Reads a trace with none of tapedeck's code.")
    parser.add_argument("trace", type=pathlib.Path)
    parser.add_argument("--table", metavar="NAME", help="with --rows: which")
    parser.add_argument("--rows", action="store_true", help="print the rows of a table, one JSON object per line")
    options = parser.parse_args()
    if options.rows != (options.table is not None):
        parser.error("--table and --rows go together")
    try:
        trace = Trace(options.trace.read_bytes())
        if options.rows:
            trace.print_rows(options.table)
        else:
            print(json.dumps(trace.summary(), indent=1))
    except BrokenPipeError:
        # Whoever reads our output has seen enough; nothing must be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, Unusable) as error:
        print(f"independent_reader: {error}", file=sys.stderr)
        return 1
    for damage in trace.damage:
        print(f"independent_reader: damaged: {damage}", file=sys.stderr)
    return 3 if trace.damage else 0


if __name__ == "__main__":
    sys.exit(main())
