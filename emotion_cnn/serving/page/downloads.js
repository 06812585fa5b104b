// Files that are made in the page, from what is in the page.

/** Offers a file to be saved. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Saves answers as the table that `predict` writes. */
export function saveTable(header, answers, name) {
  const rows = answers.map((answer) => answer.csv);
  save(new Blob([header, ...rows], { type: "text/csv" }), `${name}.csv`);
}

/** Saves answers as JSON: what `predict` writes a line each, as a list. */
export function saveJson(answers, name) {
  const lines = answers.map((answer) => JSON.stringify(answer.line)).join(",\n");
  save(new Blob([`[${lines}]\n`], { type: "application/json" }), `${name}.json`);
}

/** Returns a name for files, with the time of day. */
export function stamped(name) {
  const now = new Date(Date.now() - 60_000 * new Date().getTimezoneOffset());
  const time = now.toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
  return `${stem(name)}-${time}`;
}

/** Returns a file's name without its ending. */
export function stem(name) {
  return name.replace(/\.[^.]*$/, "") || name;
}
