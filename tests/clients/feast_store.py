"""Feast's own view of a prepared store, in a process of its own.

usage: feast_store.py REPO read ROW_JSON                         the row's features, by stock get_online_features
       feast_store.py REPO write VIEW ROW_JSON VALUES_JSON       a newer row of the view with these values
"""

import json
import sys
from datetime import UTC, datetime

import pandas as pd
from feast import FeatureStore

repo, verb, *arguments = sys.argv[1:]
store = FeatureStore(repo_path=repo)
if verb == "read":
    row = json.loads(arguments[0])
    service = store.get_feature_service("flights")
    keys = {k: [row[k]] for k in ("tailnum", "origin", "carrier", "dest")}
    answer = store.get_online_features(service, dict(keys)).to_dict()
    print(json.dumps({name: values[0] for name, values in answer.items() if name not in keys}))
else:
    view, row, values = arguments[0], json.loads(arguments[1]), json.loads(arguments[2])
    joined = store.get_feature_view(view).join_keys
    frame = pd.DataFrame([{**{k: row[k] for k in joined}, **values, "event_timestamp": datetime.now(UTC)}])
    store.write_to_online_store(view, frame)
