@0xc53b0e02f00399ad;

# A tapedeck trace, message by message.
#
# A trace is a zstd stream: skippable frames hold fixed headers (schema/frame.rs), and the other zstd
# frames, one or a few for each part that the header names, decompress to messages whose root is Frame.
# Tools that know nothing of us read it: `zstd -dc trace.bin | capnp decode schema/trace.capnp Frame`.
#
# Compatibility: numbers are never reused and fields never removed. A reader skips kinds and
# fields that it does not know; Host.requiredReader guards what would mislead an old one.

struct Frame {
  # One message. Which kind stands where is in the header of its frame.
  union {
    host @0 :Host;
    tables @1 :List(Table);
    batch @2 :Batch;
    checkpoint @3 :Checkpoint;
    footer @4 :Footer;
  }
}

struct Host {
  # The machine and the recording: the first message of every trace.
  requiredReader @0 :UInt32;
  # A reader that implements a lower number must refuse the file.
  recorder @1 :Text;
  # Program and version that wrote the file.
  hostname @2 :Text;
  kernel @3 :Text;
  machine @4 :Text;
  # Architecture as uname prints it.
  cpus @5 :UInt32;
  # Processors that the kernel could bring up.
  command @6 :List(Text);
  # How the recorder was called.
  startMono @7 :UInt64;
  # CLOCK_MONOTONIC when the gate opened, ns: time zero of the trace.
  startReal @8 :UInt64;
  # CLOCK_REALTIME of the same moment, ns.
  zone @9 :Text;
  # Name of the host's time zone.
  zoneOffset @10 :Int32;
  # Seconds east of UTC at the start.
  filters @11 :List(Text);
  # What limits the recording, as it was asked for; empty: everything.
  groups @12 :List(Text);
  pageSize @13 :UInt32;
  bootId @14 :Text;
  recording @15 :Text;
  # Random, the same in all files of one recording: what makes them a set.
  part @16 :UInt32;
  # Number of this file in its set, from 1; 0: the recording is this one file.
  hidden @17 :List(Text);
  # What the recorder made unreadable before writing, and how; empty: nothing.
}

struct Table {
  # What the columns of a batch mean. Event tables come from the C struct that the probe fills.
  number @0 :UInt16;
  # What batches and headers call it.
  name @1 :Text;
  role @2 :Role;
  group @3 :Text;
  # The probe group that fills it; empty for the recorder's own tables.
  doc @4 :Text;
  columns @5 :List(ColumnInfo);

  enum Role {
    event @0;
    # Something happened.
    identity @1;
    # What an id means; a later row of the same key replaces the earlier.
    record @2;
    # Facts about the recording: clocks, losses, probes, names of numbers.
  }
}

struct ColumnInfo {
  name @0 :Text;
  type @1 :Type;
  unit @2 :Text;
  # ns, mono_ns, us, bytes, ip, …; empty: a plain number or text.
  references @3 :Text;
  # The identity table whose key this is.
  enumeration @4 :Text;
  # Whose names are in table `enum`.
  hasNull @5 :Bool;
  null @6 :UInt64;
  # With hasNull: this value stands for "not known in this row".
  absent @7 :Text;
  # Not empty: no row has this column, for this reason.
  key @8 :Bool;
  # The id that an identity row defines.
  ends @9 :Bool;
  # Not zero: the id means nothing from here on.
  doc @10 :Text;
  histogram @11 :Bool;
  # The footer has a histogram of it.
  by @12 :Text;
  # The column of that name makes this one small: a key per value of which this runs smoothly (deltaBy, apart), or,
  # of type u64, what ends at this moment (span).
  totals @13 :Text;
  # Not empty: the footer has a Top of it, with sums of the column of that name; "rows": without sums.

  enum Type {
    u8 @0;
    u16 @1;
    u32 @2;
    u64 @3;
    i8 @4;
    i16 @5;
    i32 @6;
    i64 @7;
    text @8;
    # Bytes of any length; UTF-8 is likely but not promised.
    ip @9;
    # 16 bytes; IPv4 as ::ffff:a.b.c.d.
  }
}

struct Batch {
  # Rows of one table from one stream. Above some rows each column is a message of its own, so that
  # readers decompress only what they need: then several messages share one header.
  table @0 :UInt16;
  rows @1 :UInt32;
  columns @2 :List(Column);
}

struct Column {
  index @0 :UInt16;
  # Position in the table's definition.
  numbers @1 :Numbers;
  # One per row: the value; for text its length, or with `entries` the number of its entry.
  entries @2 :Numbers;
  # Text with a dictionary: length of each entry.
  entryCount @3 :UInt32;
  bytes @4 :List(UInt8);
  # Text: all values, or all entries, one after the other.
}

struct Numbers {
  # Integers, made small by a transform and then split into byte planes: all lowest bytes, then all
  # second bytes, and so on, as many planes as the largest needs. No plane: every x is 0.
  # All arithmetic is modulo 2^width of the column, and modulo 2^32 for text; unzigzag maps
  # 0, 1, 2, 3, … to 0, -1, 1, -2, …
  transform @0 :Transform;
  base @1 :UInt64;
  # offset: added to each. delta, deltaBy, span: the value before the first. apart: added to each whose key is new.
  by @2 :UInt16;
  # deltaBy, apart: index of the column whose value picks the predecessor: one of type u32. span: of that whose value
  # is added, of type u64. Neither has such a column itself.
  planes @3 :List(UInt8);
  newPlanes @4 :UInt8;
  # apart: how many of the planes are of rows whose key is new.
  sorted @5 :UInt8;
  # A bit for each plane (of those of rows whose key is new none): its bytes are in the order of the plane above, by the
  # value that a row has there, and under the same value by row. Never of the highest.

  enum Transform {
    offset @0;
    # value = base + x
    delta @1;
    # value = value of the row before + unzigzag(x)
    deltaBy @2;
    # value = value of the last row with the same key + unzigzag(x); base + unzigzag(x) where the key is new
    apart @3;
    # As deltaBy, but what is stored of rows whose key is new stands apart, before that of all others, each with
    # planes of its own: value = base + x where the key is new. Such values are as long as they are, and the
    # differences after them short; mixed, neither would be coded well.
    span @4;
    # value = value of the row before + unzigzag(x) + value of column `by`: the moment at which something ended that had
    # begun unzigzag(x) after the end before.
  }
}

struct Checkpoint {
  # Index of the frames since the checkpoint before.
  previous @0 :UInt64;
  # File offset of that checkpoint; 0: there is none.
  frames @1 :List(FrameInfo);
}

struct FrameInfo {
  offset @0 :UInt64;
  # Of the skippable frame with the header.
  length @1 :UInt64;
  # Header and payload.
  header @2 :Data;
  # A copy of the header: who has them all knows what is in the file without a look at each frame.
}

struct Footer {
  # Only a clean end writes it.
  checkpoint @0 :UInt64;
  # File offset of the last checkpoint.
  reason @1 :Text;
  # Why the recording ended.
  endMono @2 :UInt64;
  tables @3 :List(TableTotal);
  histograms @4 :List(Histogram);
  tops @5 :List(Top);
  absent @6 :List(Absent);
  # Parts of the recording that the file was made of and that were not there: what they told of is in no row, no loss
  # ledger and no gap of the sequence numbers. Empty in what a recorder writes.
}

struct Absent {
  # Parts that follow each other.
  first @0 :UInt32;
  # Numbers of the first and the last of them.
  last @1 :UInt32;
  from @2 :UInt64;
  # The time that they tell of, CLOCK_MONOTONIC in ns: from this moment
  to @3 :UInt64;
  # to before this one.
}

struct TableTotal {
  table @0 :UInt16;
  rows @1 :UInt64;
  rawBytes @2 :UInt64;
  storedBytes @3 :UInt64;
}

struct Histogram {
  # Log-linear: bucket b below 32 holds the value b; above, each power of two has 32 buckets.
  table @0 :UInt16;
  column @1 :UInt16;
  buckets @2 :List(UInt32);
  counts @3 :List(UInt64);
}

struct Top {
  # What rows come to by an id, for the ids that have most.
  table @0 :UInt16;
  column @1 :UInt16;
  error @2 :UInt64;
  # No weight is too small by more than this, and no id that is not listed has more. 0: all are here, and exact.
  ids @3 :List(UInt32);
  weights @4 :List(UInt64);
  # Sum over the positive values of the column that ColumnInfo.totals names; else the number of rows.
  rows @5 :List(UInt64);
  epochs @6 :List(UInt32);
  # One that has such a row, and whose identity frames therefore say what the id means.
}
