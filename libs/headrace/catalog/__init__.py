"""What is live and who may: records that change in transactions, each with its line of the audit."""
