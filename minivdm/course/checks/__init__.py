"""One module a chapter (`ch00`, `ch01`, ...), each holding the checks of that chapter's exercises."""
