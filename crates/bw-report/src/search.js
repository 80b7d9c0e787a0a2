// The search over all relays. Pages are complete without it.
(function () {
  "use strict";
  var place = document.getElementById("search");
  if (!place) { return; }
  var root = place.dataset.root || "";
  var MOST = 12;
  var relays = null;
  var wanted = false;
  var chosen = -1;

  var form = document.createElement("form");
  form.setAttribute("role", "search");
  var label = document.createElement("label");
  label.htmlFor = "query";
  label.textContent = "Find a relay";
  var input = document.createElement("input");
  input.id = "query";
  input.type = "search";
  input.autocomplete = "off";
  input.spellcheck = false;
  input.placeholder = "nickname, fingerprint, address, key, country";
  input.title = "family:NAME finds the family of a relay";
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", "found");
  input.setAttribute("aria-expanded", "false");
  var list = document.createElement("ul");
  list.id = "found";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Relays found");
  list.hidden = true;
  var status = document.createElement("p");
  status.className = "status";
  status.setAttribute("role", "status");
  // Over the page, which does not move by what is found.
  var panel = document.createElement("div");
  panel.className = "panel";
  panel.append(list, status);
  form.append(label, input, panel);
  place.append(form);

  window.bwscanIndex = function (text) {
    relays = text === "" ? [] : text.split("\n").map(function (line) {
      var fields = line.split("\t");
      return {
        fingerprint: fields[0], nickname: fields[1], address: fields[2], key: fields[3],
        country: fields[4], family: fields[5],
        lower: fields[1].toLowerCase(), lowerCountry: fields[4].toLowerCase()
      };
    });
    show();
  };

  function load() {
    if (wanted) { return; }
    wanted = true;
    var script = document.createElement("script");
    script.src = root + "search-index.js";
    script.onerror = function () { status.textContent = "The index cannot be loaded."; };
    document.head.append(script);
  }

  // How well a relay fits: less is better, none if it does not.
  function fit(relay, query, lower, hex) {
    if (relay.lower === lower) { return 0; }
    if (hex.length >= 2 && relay.fingerprint.startsWith(hex)) { return 1; }
    if (relay.lower.startsWith(lower)) { return 2; }
    if (relay.address.startsWith(lower)) { return 3; }
    if (query.length >= 4 && relay.key !== "" &&
        (relay.key.startsWith(query) || query.startsWith(relay.key))) { return 4; }
    if (relay.lowerCountry === lower) { return 5; }
    if (lower.length >= 3 && relay.lower.includes(lower)) { return 6; }
    return -1;
  }

  // The first relays of those that fit, the best before others, and the number of all. Those that
  // fit alike stay in the order of the index, which is that of weights.
  function best(fits) {
    var levels = [];
    var count = 0;
    relays.forEach(function (relay) {
      var level = fits(relay);
      if (level < 0) { return; }
      count += 1;
      levels[level] = levels[level] || [];
      if (levels[level].length < MOST) { levels[level].push(relay); }
    });
    return { first: levels.flat().slice(0, MOST), count: count };
  }

  // The fit of a relay to what was typed.
  function fitTo(query) {
    var lower = query.toLowerCase();
    var hex = query.replace(/[\s$]/g, "").toUpperCase();
    hex = /^[0-9A-F]+$/.test(hex) ? hex : "";
    return function (relay) { return fit(relay, query, lower, hex); };
  }

  // The relays of all families that a relay of this name or fingerprint is in.
  function familyOf(name) {
    var fits = fitTo(name);
    var families = new Set();
    if (name !== "") {
      relays.forEach(function (relay) {
        if (relay.family !== "" && fits(relay) >= 0) { families.add(relay.family); }
      });
    }
    return best(function (relay) { return families.has(relay.family) ? 0 : -1; });
  }

  function search(query) {
    var family = /^family:(.*)$/i.exec(query);
    return family ? familyOf(family[1].trim()) : best(fitTo(query));
  }

  function show() {
    var query = input.value.trim();
    list.textContent = "";
    chosen = -1;
    input.removeAttribute("aria-activedescendant");
    var found = query === "" || relays === null ? { first: [], count: 0 } : search(query);
    found.first.forEach(function (relay, index) {
      var item = document.createElement("li");
      item.id = "found-" + index;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      var link = document.createElement("a");
      link.href = root + "relay/" + relay.fingerprint + ".html";
      link.tabIndex = -1;
      var name = document.createElement("strong");
      name.textContent = relay.nickname || "no nickname";
      var more = document.createElement("span");
      more.textContent = " " + relay.fingerprint.slice(0, 8) + " " + relay.address + " " + relay.country;
      link.append(name, more);
      item.append(link);
      list.append(item);
    });
    panel.classList.toggle("shown", query !== "");
    list.hidden = found.count === 0;
    input.setAttribute("aria-expanded", String(found.count > 0));
    status.textContent = query === "" ? "" : relays === null ? "Loading …" :
      found.count === 0 ? "No relay fits." :
      found.count > MOST ? MOST + " of " + found.count + " relays" :
      found.count === 1 ? "1 relay" : found.count + " relays";
  }

  function choose(index) {
    var items = list.children;
    if (items.length === 0) { return; }
    if (chosen >= 0) { items[chosen].setAttribute("aria-selected", "false"); }
    chosen = (index + items.length) % items.length;
    items[chosen].setAttribute("aria-selected", "true");
    input.setAttribute("aria-activedescendant", items[chosen].id);
    items[chosen].scrollIntoView({ block: "nearest" });
  }

  input.addEventListener("focus", load);
  input.addEventListener("input", function () { load(); show(); });
  input.addEventListener("keydown", function (event) {
    if (event.key === "ArrowDown") { choose(chosen + 1); event.preventDefault(); }
    if (event.key === "ArrowUp") { choose(chosen < 0 ? -1 : chosen - 1); event.preventDefault(); }
    if (event.key === "Escape") { input.value = ""; show(); }
  });
  form.addEventListener("submit", function (event) {
    event.preventDefault();
    var item = list.children[chosen < 0 ? 0 : chosen];
    if (item) { window.location.href = item.firstChild.href; }
  });
}());
