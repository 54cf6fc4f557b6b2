"""What tests read off a terminal."""


def row(text: str, name: str) -> list[str]:
    """The cells of the first row one of whose cells is `name`."""
    rows = [[cell.strip() for cell in line.replace("┃", "│")[1:-1].split("│")] for line in text.splitlines()]
    return next(cells for cells in rows if name in cells)
