"""The ledger's schema: numbered, forward-only SQL, applied by dbmate."""
