"use strict";
// The address of the page holds its state; everything shown follows from it.
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;
  root.classList.add("scripted");

  const sections = all(".setup");
  const setups = sections.map((section) => section.dataset.setup);
  const chooser = one("#setup");
  const picks = all(".pick").map((line) => ({ line, box: one("input", line), label: one("input", line).value }));
  const labels = picks.map((pick) => pick.label);
  const marks = all(".drawing [data-strategy]");
  const usual = new Set(all(".role:checked").map((box) => box.value));
  const rowsOf = new Map(sections.map((section) => [section, all("tbody tr", one("table", section))]));

  const initial = () => ({
    setup: setups[0], hidden: new Set(), roles: new Set(usual), filter: "", sort: "", down: false,
  });
  let state = initial();

  function read() {
    state = initial();
    const parameters = new URLSearchParams(location.hash.slice(1));
    if (setups.includes(parameters.get("setup"))) state.setup = parameters.get("setup");
    if (parameters.has("only")) {
      const only = parameters.getAll("only");
      state.hidden = new Set(labels.filter((label) => !only.includes(label)));
    }
    for (const label of parameters.getAll("hide")) if (labels.includes(label)) state.hidden.add(label);
    if (parameters.has("rows")) state.roles = new Set(parameters.get("rows").split(" "));
    state.filter = parameters.get("filter") ?? "";
    state.sort = parameters.get("sort") ?? "";
    state.down = parameters.get("order") === "down";
  }

  function write() {
    const parameters = new URLSearchParams();
    if (state.setup !== setups[0]) parameters.set("setup", state.setup);
    const shown = labels.filter((label) => !state.hidden.has(label));
    if (shown.length < state.hidden.size) for (const label of shown.length ? shown : [""]) parameters.append("only", label);
    else for (const label of state.hidden) parameters.append("hide", label);
    if (state.roles.size !== usual.size || [...usual].some((role) => !state.roles.has(role)))
      parameters.set("rows", [...state.roles].join(" "));
    if (state.filter) parameters.set("filter", state.filter);
    if (state.sort) parameters.set("sort", state.sort);
    if (state.sort && state.down) parameters.set("order", "down");
    const text = parameters.toString();
    if (text !== location.hash.slice(1)) history.replaceState(null, "", `#${text}`);
  }

  const sortValue = (row, index) => {
    if (index === 0) return row.dataset.label;
    const key = row.cells[index]?.dataset.key;
    const value = key === undefined ? NaN : Number(key);
    return Number.isNaN(value) ? null : value;
  };

  function sort(section) {
    const heads = all(".sorts th", section);
    const index = heads.findIndex((head) => head.dataset.column === state.sort);
    heads.forEach((head, i) => {
      head.setAttribute("aria-sort", i !== index ? "none" : state.down ? "descending" : "ascending");
    });
    let rows = rowsOf.get(section);
    if (index >= 0) {
      const order = (a, b) => {
        if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
        return a === b ? 0 : a - b;  // the difference of two infinities is NaN
      };
      rows = [...rows].sort((first, second) => {
        const a = sortValue(first, index), b = sortValue(second, index);
        if (a === null || b === null) return (a === null) - (b === null);  // rows without a number come last
        return state.down ? order(b, a) : order(a, b);
      });
    }
    one("tbody", section).append(...rows);
  }

  function show() {
    if (chooser) chooser.value = state.setup;
    for (const section of sections) {
      const current = section.dataset.setup === state.setup;
      section.classList.toggle("off", !current);
      if (!current) continue;
      sort(section);
      one(".filter", section).value = state.filter;
      for (const box of all(".role", section)) box.checked = state.roles.has(box.value);
      const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rowsOf.get(section)) {
        const { label, role } = row.dataset;
        const found = words.every((word) => label.toLowerCase().includes(word));
        const shown = found && state.roles.has(role) && !state.hidden.has(label);
        row.classList.toggle("off", !shown);
        count += shown;
      }
      one(".rows-shown", section).textContent = `${count} of ${rowsOf.get(section).length} rows`;
      one(".empty", section).hidden = count > 0;
    }
    for (const pick of picks) pick.box.checked = !state.hidden.has(pick.label);
    for (const mark of marks) mark.classList.toggle("off", state.hidden.has(mark.dataset.strategy));
    const text = `${labels.length - state.hidden.size} of ${labels.length}`;
    one("#picked").textContent = one("#picked-short").textContent = text;
  }

  function change(changes) {
    Object.assign(state, changes);
    write();
    show();
  }

  chooser?.addEventListener("change", () => change({ setup: chooser.value }));
  for (const section of sections) {
    one(".filter", section).addEventListener("input", (event) => change({ filter: event.target.value }));
    for (const box of all(".role", section))
      box.addEventListener("change", () =>
        change({ roles: new Set(all(".role:checked", section).map((ticked) => ticked.value)) }));
    for (const head of all(".sorts th", section))
      one("button", head).addEventListener("click", (event) => {
        const sort = head.dataset.column, first = "down" in head.dataset;
        if (state.sort !== sort) change({ sort, down: first });
        else if (state.down === first) change({ down: !first });
        else change({ sort: "", down: false });  // the third click restores the order
        event.currentTarget.focus();
      });
  }

  const pick = (wanted, hide) => {
    const hidden = new Set(state.hidden);
    for (const label of wanted) hide ? hidden.add(label) : hidden.delete(label);
    change({ hidden });
  };
  const listed = () => picks.filter((each) => !each.line.classList.contains("off")).map((each) => each.label);
  one("#all").addEventListener("click", () => pick(listed(), false));
  one("#none").addEventListener("click", () => pick(listed(), true));
  one("#seek").addEventListener("input", (event) => {
    const word = event.target.value.trim().toLowerCase();
    for (const each of picks) each.line.classList.toggle("off", !each.label.toLowerCase().includes(word));
    for (const group of all(".picks fieldset")) group.classList.toggle("off", !one(".pick:not(.off)", group));
  });
  const unfold = one("#unfold");
  unfold.addEventListener("click", () => {
    const open = one("#picking").classList.toggle("unfolded");
    unfold.setAttribute("aria-expanded", String(open));
  });

  // While the pointer is on a strategy in the list, the plots dim all others.
  const spot = (label) => {
    root.classList.toggle("spot", label !== null);
    for (const mark of marks) mark.classList.toggle("lit", mark.dataset.strategy === label);
  };
  for (const { line, box, label } of picks) {
    box.addEventListener("change", () => pick([label], !box.checked));
    line.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse" && !state.hidden.has(label)) spot(label);
    });
    line.addEventListener("pointerleave", () => spot(null));
  }

  // The title of a mark appears beside the pointer at once instead of after the browser's delay.
  const tip = one("#tip");
  let told = null;
  const untell = () => {
    tip.hidden = true;
    if (told) told.mark.prepend(told.title);
    told = null;
  };
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest?.(".drawing [data-strategy]");
    if (told && told.mark !== mark) untell();
    if (!mark) return;
    const title = told?.title ?? one(":scope > title", mark);
    if (!title) return;
    if (!told) {
      told = { mark, title };
      title.remove();
      tip.textContent = title.textContent;
      tip.hidden = false;
    }
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
    tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
  });
  document.addEventListener("scroll", untell, { capture: true, passive: true });
  document.documentElement.addEventListener("pointerleave", untell);

  function save(name, content, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
  for (const button of all(".save"))
    button.addEventListener("click", async () => {
      const packed = atob(document.getElementById(button.dataset.file).textContent);
      const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
      const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      save(button.dataset.name, await new Response(unpacked).arrayBuffer(), "text/csv");
    });
  for (const button of all(".save-svg"))
    button.addEventListener("click", () => {
      const plot = button.closest(".plot");
      const drawing = one(".drawing svg", plot).cloneNode(true);
      for (const mark of all(".off", drawing)) mark.remove();  // hidden strategies are not saved
      for (const mark of all("[class]", drawing)) mark.removeAttribute("class");
      const section = plot.closest(".setup");
      const name = section ? `${section.dataset.setup}-${plot.dataset.name}` : plot.dataset.name;
      // The variables are defined in the page only; replace each by its default.
      const text = new XMLSerializer().serializeToString(drawing).replace(/var\(--grey-\w+, ?(#\w+)\)/g, "$1");
      save(`${name}.svg`, text, "image/svg+xml");
    });
  one("#copy").addEventListener("click", async (event) => {
    const button = event.currentTarget, code = one(".commands code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 2_000);
  });

  // Links within the page leave the address alone, since it holds the state.
  for (const link of all('a[href^="#"]'))
    link.addEventListener("click", (event) => {
      const target = document.getElementById(link.getAttribute("href").slice(1));
      if (!target) return;
      event.preventDefault();
      if (target.tagName === "DETAILS") target.open = true;
      target.scrollIntoView();
      (one(":scope > summary", target) ?? target).focus({ preventScroll: true });
    });

  const theme = one("#theme");
  const apply = () => { theme.value ? (root.dataset.theme = theme.value) : delete root.dataset.theme; };
  try { theme.value = localStorage.getItem("mtlbench-theme") ?? ""; } catch { /* no storage: the system's theme */ }
  theme.addEventListener("change", () => {
    apply();
    try { localStorage.setItem("mtlbench-theme", theme.value); } catch { /* it lasts for this visit only */ }
  });
  apply();

  addEventListener("hashchange", () => { read(); show(); });
  read();
  show();
})();
