// The runs' configurations, key by key, with what differs.

function configurationView() {
  const section = document.getElementById("configuration");
  if (!data.configuration.length) {
    section.append(make("p", { class: "soft" }, "No run has a configuration."));
    return () => {};
  }
  const several = data.runs.length > 1;
  const only = make("input", { type: "checkbox", onchange: () => remember({ differences: only.checked ? "1" : "" }) });
  const count = data.configuration.filter((row) => row.differs).length;
  const heads = data.runs.map((run, at) => make("th", { scope: "col" }, make("span", { class: "swatch", style: colourStyle(at) }), " ", run.name));
  const body = make("tbody");
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "key"), heads));
  section.append(
    several && make("div", { class: "bar" }, make("label", {}, only, `Only the ${count} keys that differ`)),
    make("div", { class: "card scroll" }, make("table", { class: "keys" }, head, body)));
  return () => {
    only.checked = state.differences;
    const rows = data.configuration.filter((row) => row.differs || !state.differences);
    let before = null;
    body.replaceChildren(...rows.flatMap((row) => {
      const title = row.section !== before && make("tr", { class: "section" },
        make("th", { colspan: data.runs.length + 1 }, row.section ? `[${row.section}]` : "(top)"));
      before = row.section;
      const cells = row.values.map((value) => (value == null ? make("td", { class: "soft" }, "–") : make("td", {}, value)));
      const key = make("th", { scope: "row" }, row.key, row.differs && make("span", { title: "the runs differ" }, " ≠"));
      return [title, make("tr", { class: row.differs && "differs" }, key, cells)].filter(Boolean);
    }));
  };
}
