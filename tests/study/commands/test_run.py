"""The command line: what it says, what it returns, and what it leaves behind."""



