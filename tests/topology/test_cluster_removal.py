from elsewhere import taken_from

globals().update(taken_from("identity/test_removal.py"))
