for (const table of document.querySelectorAll("table.printed")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[column];
        const number = cell?.querySelector("[data-v]");
        return number ? Number(number.dataset.v) : (cell?.textContent ?? "");
      };
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => row.className !== "group");
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
          return down ? order : -order;
        });
        body.append(...rows);
      }
    });
  });
}
