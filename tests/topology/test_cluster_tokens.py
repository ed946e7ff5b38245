from elsewhere import taken_from

globals().update(taken_from("identity/test_sessions.py"))
globals().update(taken_from("identity/test_revocation.py"))
