// Sorts a table by the column whose head is pressed. Without it tables are as they were written.
(function () {
  "use strict";
  var POWERS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 };
  var ORDER = new Intl.Collator("en", { numeric: true });
  var SECONDS = { s: 1, min: 60, h: 3600, d: 86400 };

  // The number that a cell shows, such as 1,234, 12.3 MB/s, × 0.5, 40 % or 3 h 20 min.
  function number(text) {
    var plain = text.replace(/[\u00a0 ]+/g, " ").replace(/,/g, "").replace(/^× /, "");
    if (/^\d+ (s|min|h|d)\b/.test(plain)) {
      var sum = 0;
      plain.replace(/(\d+) (s|min|h|d)\b/g, function (_, count, unit) { sum += count * SECONDS[unit]; });
      return sum;
    }
    var found = plain.match(/^(-?\d+(?:\.\d+)?)(?: ([kMGTP])B)?/);
    return found ? Number(found[1]) * (POWERS[found[2]] || 1) : NaN;
  }

  function value(row, column) {
    var cell = row.cells[column];
    var text = cell ? cell.textContent.trim() : "";
    return cell && cell.classList.contains("number") ? number(text) : text;
  }

  // What is missing comes last, up or down.
  function missing(one) { return one === "" || Number.isNaN(one); }

  function compare(one, other, sign) {
    if (missing(one) || missing(other)) { return missing(one) - missing(other); }
    if (typeof one === "number" && typeof other === "number") { return sign * (one - other); }
    return sign * ORDER.compare(String(one), String(other));
  }

  function sort(body, heads, column) {
    var head = heads[column];
    // Numbers begin with the largest.
    var first = head.classList.contains("number") ? "descending" : "ascending";
    var second = first === "ascending" ? "descending" : "ascending";
    var order = head.getAttribute("aria-sort") === first ? second : first;
    heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", order);
    var sign = order === "ascending" ? 1 : -1;
    var rows = Array.from(body.rows).map(function (row) { return [value(row, column), row]; });
    rows.sort(function (a, b) { return compare(a[0], b[0], sign); });
    body.append.apply(body, rows.map(function (pair) { return pair[1]; }));
  }

  document.querySelectorAll("table").forEach(function (table) {
    var body = table.tBodies[0];
    // A table that moves is in an order of its own.
    if (!table.tHead || !body || body.rows.length < 2 || "live" in body.dataset) { return; }
    var heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.append.apply(button, Array.from(head.childNodes));
      button.addEventListener("click", function () { sort(body, heads, column); });
      head.append(button);
    });
  });
}());
