"""Reading tables: what can be read, what is refused and how, and that batches stay small in memory."""
import gzip
import os
import subprocess
import sys

import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from dlagg.tables.sources import SourceError, batches, read_table

FRAME = pd.DataFrame({"id": ["a", "b", "c"], "n": [1, 2, 3], "x": [0.5, np.nan, 2.5]})


def refused(source, says, **options):
    with pytest.raises(SourceError) as caught:
        read_table(source, **options)
    message = str(caught.value)
    assert "\n" not in message and says in message, message
    assert "; " in message                      # what is wrong; what to do
    return message


@pytest.mark.parametrize("name, content, says", [
    ("empty.csv", b"", "is empty"), ("blank.csv", b"\n \n", "is empty"), ("header.csv", b"a,b\n", "no rows"), ("header2.csv", b"a,b", "no rows"),
    ("png.csv", b"\x89PNG\r\n\x1a\n\0\0", "PNG"), ("zip.csv", b"PK\x03\x04....", "zip"), ("pq.csv", b"PAR1....PAR1", "Parquet"),
    ("nul.csv", b"a,b\n1,\x002\n", "zero byte at position 6"), ("latin.csv", "a,b\né,1\n".encode("latin-1"), "byte 0xe9 at position 4 (line 2)"),
    ("ragged.csv", b"a,b\n1,2\n\n3\n4,5,6\n", "line 4 has 1 fields"), ("twice.csv", b"a,b,a\n1,2,3\n", "'a' stands 2 times"),
    ("quote.csv", b'a,b\n1,2\n"3,4\n', "line 3"), ("bad.parquet", b"PAR1 broken", "not a whole Parquet"), ("bad.xlsx", b"PK\x03\x04broken", "not a whole .xlsx"),
    ("bad.csv.gz", b"a,b\n1,2\n", "not gzip"), ("old.xls", b"\xd0\xcf\x11\xe0", ".xls"), ("empty.xlsx", b"", "is empty"), ("utf16.csv", "a,b\n1,2\n".encode("utf-16-le"), "zero byte"),
    ("wide.csv", (",".join(f"c{i}" for i in range(10_000)) + "\n" + ",".join("1" * 10_000)).encode(), "10,000 columns"),
])
def test_bad_files_get_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    assert str(tmp_path / name) in refused(tmp_path / name, says)


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "orders.csv").write_text("a\n1\n")
    (tmp_path / "sub").mkdir()
    refused(tmp_path / "order.csv", "did you mean 'orders.csv'?")
    refused(tmp_path / "no" / "orders.csv", "does not exist")
    refused(tmp_path / "sub", "holds no table")
    refused(str(tmp_path / "*.parquet"), "no file matches")
    refused("https://example.org/a.csv", "download it first")
    refused(tmp_path / "orders.csv", "there is no column 'b'", columns=["b"])
    with pytest.raises(TypeError, match="got int"):
        read_table(3)


def test_a_file_one_may_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    path.chmod(0)
    if os.access(path, os.R_OK):               # the superuser may read everything: let the operating system's answer be given for it
        def no(*args, **options):
            raise PermissionError(13, "Permission denied")
        monkeypatch.setattr("dlagg.tables.sources._kind", no)
    refused(path, "may not read")


def test_protected_workbook(tmp_path):
    (tmp_path / "secret.xlsx").write_bytes(b"\xd0\xcf\x11\xe0" + b"\0" * 100 + "EncryptedPackage".encode("utf-16-le"))
    refused(tmp_path / "secret.xlsx", "password")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_and_delimiters_are_found(tmp_path, encoding, delimiter):
    path = tmp_path / "a.csv"
    path.write_bytes(f'näme{delimiter}"x"\r\n中{delimiter}"1{delimiter}2\nline"\r\n'.encode(encoding))
    table = read_table(path)
    assert list(table.columns) == ["näme", "x"] and table.iloc[0].tolist() == ["中", f"1{delimiter}2\nline"]


def test_named_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("name\ncafé\n".encode("cp1252"))
    assert read_table(tmp_path / "a.csv", encoding="cp1252")["name"].tolist() == ["café"]
    refused(tmp_path / "a.csv", "unknown", encoding="klingon")


def test_gz_and_late_bad_byte(tmp_path):
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write("a,b\n1,x\n")
    assert read_table(tmp_path / "a.csv.gz").to_dict("list") == {"a": [1], "b": ["x"]}
    body = b"a,b\n" + b"1,x\n" * 600_000
    (tmp_path / "late.csv").write_bytes(body + b"2,\xff\n")
    refused(tmp_path / "late.csv", f"position {len(body) + 2} (line 600002)")


def test_numbers_that_are_names_stay_text(tmp_path):
    (tmp_path / "a.csv").write_text("zip,account,n,late,word\n01067,12345678901234567,1,1,nan\n10115,1,,2,1\n10117,2,3,C3,2\n")
    table = read_table(tmp_path / "a.csv")
    assert table["zip"].tolist()[0] == "01067" and table["account"].tolist()[0] == "12345678901234567"
    assert table["late"].tolist() == ["1", "2", "C3"] and table["word"].tolist()[0] == "nan" and table["n"].dtype == "float64"


def test_excel(tmp_path):
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        FRAME.to_excel(book, sheet_name="first", index=False)
        FRAME.assign(n=9).to_excel(book, sheet_name="second", index=False)
    with pytest.warns(UserWarning, match="first of 2 sheets"):
        pd.testing.assert_frame_equal(read_table(tmp_path / "a.xlsx"), FRAME, check_dtype=False)
    assert read_table(tmp_path / "a.xlsx", sheet="second")["n"].tolist() == [9, 9, 9]
    refused(tmp_path / "a.xlsx", "did you mean 'second'?", sheet="secnd")


def test_many_files(tmp_path):
    for i in range(3):
        FRAME.assign(n=i).to_csv(tmp_path / f"{i}.csv", index=False)
    assert read_table(tmp_path)["n"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    FRAME[["x", "n", "id"]].to_parquet(tmp_path / "3.parquet")
    assert len(read_table([tmp_path / "0.csv", tmp_path / "3.parquet"])) == 6
    (tmp_path / "4.csv").write_text("id,n,y\na,1,2\n")
    message = refused(str(tmp_path / "?.csv"), "it has y, which 0.csv has not and it lacks x of 0.csv")
    assert "4.csv" in message


@pytest.mark.parametrize("make", [lambda f: f, pl.from_pandas, pa.Table.from_pandas, lambda f: nw.from_native(f), lambda f: pl.from_pandas(f).lazy(),
                                  lambda f: nw.from_native(pl.from_pandas(f)), duckdb.from_df])
def test_frames_of_every_library(make):
    table = read_table(make(FRAME), columns=["n", "id"])
    assert table["n"].tolist() == [1, 2, 3] and table["id"].tolist() == ["a", "b", "c"]
    assert sum(len(b) for b in batches(make(FRAME), size=2)) == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8), min_size=2, max_size=2), min_size=1, max_size=8))
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "a.csv"
    pd.DataFrame(rows, columns=["first", "second"]).to_csv(path, index=False, quoting=1, encoding="utf-8")
    table = read_table(path, delimiter=",")
    for i, name in enumerate(("first", "second")):
        if table[name].dtype.kind in "if":
            assert [float(row[i]) for row in rows] == table[name].tolist()
        else:
            assert [row[i] for row in rows] == table[name].tolist()


def test_batches_agree_with_the_whole(tmp_path):
    frame = pd.DataFrame({"k": [str(i) for i in range(1000)] + ["C1"], "n": range(1001)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=300)
    relation = duckdb.connect().read_parquet(str(tmp_path / "a.parquet"))
    for source in (tmp_path / "a.csv", tmp_path / "a.parquet", pads.dataset(tmp_path / "a.parquet"), pq.read_table(tmp_path / "a.parquet"), frame, relation):
        pieces = list(batches(source, size=256))
        assert max(len(p) for p in pieces) <= 256
        whole = pa.Table.from_batches(pieces)
        assert whole["k"].to_pylist() == frame["k"].tolist() and whole["n"].to_pylist() == frame["n"].tolist()
    with pytest.raises(ValueError, match="positive"):
        batches(frame, size=0)


def test_batches_of_csv_keep_memory_flat(tmp_path):
    path = tmp_path / "long.csv"
    with open(path, "w") as file:
        file.write("key,text,value\n")
        for i in range(40):
            file.write("".join(f"{j},{'abcdefgh' * 6},{j}.5\n" for j in range(50_000)))          # 2 million rows, 130 MB
    program = ("import resource, sys\nfrom dlagg.tables.sources import batches\nnext(batches(sys.argv[1]))\n"
               "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nn = sum(len(b) for b in batches(sys.argv[1]))\n"
               "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)")
    rows, grown = map(int, subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True).stdout.split())
    assert rows == 2_000_000 and grown < 60_000       # kB


def test_online_retail_is_read_whole(mirror):
    path = mirror / "online-retail-dataset.csv"
    table = read_table(path)
    assert table.shape == (541_909, 8)
    assert table["CustomerID"].isna().sum() == 135_080 and (table["Quantity"] < 0).sum() == 10_624
    assert pd.api.types.is_string_dtype(table["InvoiceNo"]) and table["InvoiceNo"].str.startswith("C").sum() == 9_288
    assert sum(len(b) for b in batches(path)) == 541_909
