"""Runs an SQL query with DuckDB and prints its rows as JSON, one a line.

usage: sql.py QUERY
"""

import json
import sys

import duckdb


def main():
    for row in duckdb.execute(sys.argv[1]).fetchall():
        print(json.dumps(row, default=str))


main()
