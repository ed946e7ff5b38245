from elsewhere import taken_from

globals().update(taken_from("vault/test_importing.py"))
