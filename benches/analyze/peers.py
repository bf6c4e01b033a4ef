"""The questions of the benchmark in DuckDB's SQL and as polars' lazy plans: peers.py ENGINE QUESTION FOLDER.

Two threads each. Sizes of calls are 32-bit two's complement in the files, as in the records. Of the answer,
figures are printed: those that the report's answer must have too.
"""

import sys

engine, question, folder = sys.argv[1:4]
SEND, RECV, RX, SOCK = (f"{folder}/{name}.parquet" for name in ("sock_send", "sock_recv", "tcp_rx", "sock"))
PORT = 10005
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
# Moments in reports count from here.
START = int(open(f"{folder}/start").read())


def figures(names, rows):
    """Sums over the rows of an answer."""
    rows = [{name: value or 0 for name, value in zip(names, row)} for row in rows]
    total = lambda *wanted: sum(row[name] for row in rows for name in wanted)
    if question == "one port, one second":
        return [total("calls"), total("tx")]
    if question == "lines":
        return [total("lines")]
    found = [total("tx", "rx")]
    if question == "flow table":
        lists = [row["q"] or [] for row in rows]
        found += [sum(values[at] for values in lists if values) for at in range(len(QUANTILES))]
    return found

if engine == "duckdb":
    import duckdb

    db = duckdb.connect()
    db.execute("SET threads = 2")
    size = "CASE WHEN ret < 2147483648 THEN ret ELSE 0 END"
    sql = {
        "bytes by socket": f"""
            SELECT sock, sum(tx) AS tx, sum(rx) AS rx FROM (
                SELECT sock, {size} AS tx, 0 AS rx FROM '{SEND}' UNION ALL
                SELECT sock, 0, {size} FROM '{RECV}' WHERE flags & 2 = 0
            ) AS moved GROUP BY sock ORDER BY sum(moved.tx) + sum(moved.rx) DESC LIMIT 20""",
        "flow table": f"""
            SELECT * FROM (
                SELECT sock, count(*) AS tx_calls, sum({size}) AS tx, min(ts) AS first_tx, max(ts) AS last_tx,
                    quantile_disc(latency, {list(QUANTILES)}) AS q FROM '{SEND}' GROUP BY sock
            ) FULL JOIN (
                SELECT sock, count(*) AS rx_calls, sum({size}) AS rx, min(ts) AS first_rx, max(ts) AS last_rx
                FROM '{RECV}' WHERE flags & 2 = 0 GROUP BY sock
            ) USING (sock) FULL JOIN (
                SELECT sock, min(ts) AS first, max(ts) AS last, arg_max(srtt, ts) AS srtt FROM '{RX}' GROUP BY sock
            ) USING (sock) ORDER BY coalesce(tx, 0) + coalesce(rx, 0) DESC LIMIT 10""",
        "lines": f"""
            COPY (SELECT make_timestamp_ns(CAST(ts AS BIGINT)) AS time, * EXCLUDE ts FROM '{SEND}' ORDER BY ts)
            TO '/dev/null' (FORMAT csv)""",
        "one port, one second": f"""
            SELECT count(*) AS calls, sum({size}) AS tx FROM '{SEND}'
            WHERE ts >= {START + 5_000_000_000} AND ts < {START + 6_000_000_000}
              AND sock IN (SELECT sock FROM '{SOCK}' WHERE lport = {PORT})""",
    }
    answer = db.execute(sql[question])
    names, rows = [column[0] for column in answer.description], answer.fetchall()
    if question == "lines":
        names = ["lines"]  # what COPY answers
else:
    import polars as pl

    size = pl.when(pl.col("ret") < 2147483648).then(pl.col("ret")).otherwise(0).cast(pl.UInt64)
    sends, receives, segments = (pl.scan_parquet(path) for path in (SEND, RECV, RX))
    receives = receives.filter(pl.col("flags") & 2 == 0)
    ts, latency = pl.col("ts"), pl.col("latency")
    if question == "bytes by socket":
        both = pl.concat([
            sends.select("sock", tx=size, rx=pl.lit(0, pl.UInt64)),
            receives.select("sock", tx=pl.lit(0, pl.UInt64), rx=size),
        ])
        plan = both.group_by("sock").agg(pl.col("tx").sum(), pl.col("rx").sum())
        plan = plan.sort(pl.col("tx") + pl.col("rx"), descending=True).head(20)
    elif question == "flow table":
        quantiles = pl.concat_list([latency.quantile(q, "equiprobable") for q in QUANTILES]).alias("q")
        tx = sends.group_by("sock").agg(
            pl.len().alias("tx_calls"), size.sum().alias("tx"), ts.min().alias("t0"), ts.max().alias("t1"), quantiles)
        rx = receives.group_by("sock").agg(
            pl.len().alias("rx_calls"), size.sum().alias("rx"), ts.min().alias("r0"), ts.max().alias("r1"))
        seg = segments.group_by("sock").agg(
            ts.min().alias("s0"), ts.max().alias("s1"), pl.col("srtt").get(ts.arg_max()).alias("srtt"))
        plan = tx.join(rx, on="sock", how="full", coalesce=True).join(seg, on="sock", how="full", coalesce=True)
        plan = plan.sort(pl.col("tx").fill_null(0) + pl.col("rx").fill_null(0), descending=True).head(10)
    elif question == "lines":
        time = ts.cast(pl.Datetime("ns"))
        sends.select(time.alias("time"), pl.exclude("ts")).sort("time").sink_csv("/dev/null", engine="streaming")
        plan = sends.select(pl.len().alias("lines"))
    else:
        span = sends.filter((ts >= START + 5_000_000_000) & (ts < START + 6_000_000_000))
        port = pl.scan_parquet(SOCK).filter(pl.col("lport") == PORT)
        plan = span.join(port, on="sock", how="semi").select(pl.len().alias("calls"), size.sum().alias("tx"))
    frame = plan.collect(engine="streaming")
    names, rows = frame.columns, frame.rows()

print("answer:", *(int(figure) for figure in figures(names, rows)))
