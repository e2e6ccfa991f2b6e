// The results that are on the page, as a CSV file.

const COLUMNS = ["rank", "path", "start_seconds", "end_seconds", "score", "label"];

const field = (value) => {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
};

export function resultsTable(results) {
  const lines = results.map((one, i) => [i + 1, one.path, one.start, one.end, one.score, one.label].map(field).join(","));
  return `${[COLUMNS.join(","), ...lines].join("\n")}\n`;
}

export function saveResults(results, name) {
  const url = URL.createObjectURL(new Blob([resultsTable(results)], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `like ${name.replace(/\.[^.]*$/, "")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
