"""The client half: who a callee is, and the order of the layers that a call goes through."""
