"use strict";
(() => {
  const PER_PAGE = 200; // rows in the document at a time: thousands would make every change slow
  const find = (id) => document.getElementById(id);
  const table = find("cases"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const text = find("text"), status = find("status"), dialog = find("case"), image = find("picture");
  const embedded = JSON.parse(find("pictures").textContent);
  const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const all = [...body.rows];
  let shown = all, page = 0, open = null;

  // A number is compared exactly, not as it is rounded for reading; what is missing comes last either way.
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.textContent === "") return null;
    return heads[column].classList.contains("n") ? Number(cell.dataset.v) : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : words.compare(a, b));

  function sort(column, down) {
    const keys = new Map(all.map((row) => [row, value(row, column)]));
    all.sort((one, two) => {
      const a = keys.get(one), b = keys.get(two);
      if (a === null || b === null) return (a === null) - (b === null);
      return down ? compare(b, a) : compare(a, b);
    });
    heads.forEach((head, n) => n === column
      ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
    filter();
  }

  function filter() {
    const wanted = text.value.trim().toLowerCase();
    const fits = (row) => {
      const content = (row.searched ??= [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
      return content.includes(wanted);
    };
    shown = all.filter((row) => (!status.value || row.classList.contains(status.value)) && fits(row));
    turn(0);
  }

  function turn(to) {
    page = to;
    const first = page * PER_PAGE, last = Math.min(first + PER_PAGE, shown.length);
    body.replaceChildren(...shown.slice(first, last));
    const part = last - first < shown.length ? `${first + 1} to ${last} of ` : "";
    find("count").textContent = `${part}${shown.length} ${shown.length === 1 ? "case" : "cases"}`
      + (shown.length < all.length ? ` (of ${all.length})` : "");
    find("before").disabled = page === 0;
    find("after").disabled = last === shown.length;
  }

  function show(row) {
    open = row;
    const link = row.querySelector("a"), name = row.cells[0].textContent;
    find("name").textContent = name;
    image.hidden = !link;
    find("missing").hidden = true;
    if (link) {
      image.alt = `Axial, coronal and sagittal slices of ${name} with the outlines of the segments`;
      image.src = embedded[name] ? `data:image/png;base64,${embedded[name]}` : link.getAttribute("href");
    }
    const facts = [];
    [...row.cells].forEach((cell, n) => {
      if (n === 0 || cell.textContent === "") return;
      const group = document.createElement("div"), term = document.createElement("dt"), what = document.createElement("dd");
      term.append(...[...heads[n].querySelector("button").childNodes].map((node) => node.cloneNode(true)));
      what.textContent = cell.textContent;
      group.append(term, what);
      facts.push(group);
    });
    find("facts").replaceChildren(...facts);
    const at = shown.indexOf(row);
    find("previous").disabled = at <= 0;
    find("next").disabled = at < 0 || at === shown.length - 1;
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const at = shown.indexOf(open);
    if (at >= 0 && shown[at + by]) show(shown[at + by]);
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") === "ascending"));
  });
  text.addEventListener("input", filter);
  status.addEventListener("change", filter);
  find("before").addEventListener("click", () => turn(page - 1));
  find("after").addEventListener("click", () => turn(page + 1));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-case]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const row = link.closest("tr") ?? all.find((one) => one.cells[0].textContent === link.dataset.case);
    if (!row) return;
    event.preventDefault();
    show(row);
  });
  image.addEventListener("error", () => { image.hidden = true; find("missing").hidden = false; });
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  find("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  filter();
  body.classList.remove("waiting");
})();
