from elsewhere import taken_from

globals().update(taken_from("store/test_ledger.py"))
