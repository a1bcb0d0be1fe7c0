// What is shown stands in the address, so that a link leads to the same sight.

const VIEWS = { curves: "Curves", time: "Time", samples: "Samples", configuration: "Configuration" };

const state = { view: "curves", runs: data.runs.map(() => true) };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const number = (key) => (given.get(key) && Number.isFinite(Number(given.get(key))) ? Number(given.get(key)) : null);
  state.view = VIEWS[given.get("view")] ? given.get("view") : "curves";
  state.smoothing = Math.max(0, number("smooth") ?? Math.round(lastStep / 50));
  state.metric = given.get("metric") ?? "";
  state.differences = given.get("differences") === "1";
  state.correct = ["right", "wrong"].includes(given.get("correct")) ? given.get("correct") : "all";
  [state.from, state.to, state.min] = ["from", "to", "min"].map(number);
  state.order = ORDERS[given.get("sort")] ? given.get("sort") : "newest";
  state.find = given.get("find") ?? "";
  const hidden = (given.get("hide") ?? "").split(",");
  state.runs = data.runs.map((_, at) => !hidden.includes(String(at)));
}

/** Changes what is shown. */
function remember(changes) {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, value] of Object.entries(changes)) {
    if (value === "" || value == null) given.delete(key);
    else given.set(key, value);
  }
  history.replaceState(null, "", `#${given}`);
  update();
}

readAddress();
runsView();
const views = { curves: curvesView(), time: timeView(), samples: samplesView(), configuration: configurationView() };
const tabs = Object.entries(VIEWS).map(([name, label]) =>
  make("button", { role: "tab", id: `tab-${name}`, "aria-controls": name, onclick: () => remember({ view: name }) }, label));
const tablist = document.getElementById("tabs");
tablist.append(...tabs);
tablist.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move) return;
  const next = tabs[(tabs.indexOf(document.activeElement) + move + tabs.length) % tabs.length];
  next.focus();
  next.click();
});
addEventListener("hashchange", update);
update();

function update() {
  readAddress();
  for (const tab of tabs) {
    const name = tab.getAttribute("aria-controls");
    tab.setAttribute("aria-selected", name === state.view);
    tab.tabIndex = name === state.view ? 0 : -1;
    document.getElementById(name).hidden = name !== state.view;
  }
  for (const input of document.querySelectorAll("#runs input")) input.checked = state.runs[input.value];
  views[state.view]();
}

/** The runs, with the numbers one asks for first; also the legend of all charts. */
function runsView() {
  const toggle = () => {
    const hidden = [...document.querySelectorAll("#runs input")].filter((input) => !input.checked).map((input) => input.value);
    remember({ hide: hidden.join(",") });
  };
  const at = (value, step) => (value == null ? "–" : [short(value), make("span", { class: "soft" }, ` at ${step.toLocaleString("en")}`)]);
  const measure = data.runs.find((run) => run.validation)?.validation[0] ?? "validation";
  const rows = data.runs.map((run, place) => {
    const [, [last, best] = [], [lastStep, bestStep] = []] = run.validation ?? [];
    const input = data.runs.length > 1 && make("input", { type: "checkbox", value: place, checked: true, onchange: toggle });
    const name = make("label", {}, input, make("span", { class: "swatch", style: colourStyle(place) }), run.name);
    const numbers = [run.last_step.toLocaleString("en"), at(last, lastStep), at(best, bestStep),
      run.reward == null ? "–" : short(run.reward), run.seconds ? duration(run.seconds) : "–"];
    return make("tr", {}, make("td", {}, name), numbers.map((number) => make("td", { class: "number" }, number)));
  });
  const heads = ["run", "steps", `${measure}, last`, "best", "reward, last", "time"];
  const table = make("table", { class: "runs" },
    make("thead", {}, make("tr", {}, heads.map((name, at) => make("th", { class: at > 0 && "number", scope: "col" }, name)))),
    make("tbody", {}, rows));
  const notes = data.notes.length > 0 && make("details", { class: "card notes" },
    make("summary", {}, data.notes.length === 1 ? "1 note" : `${data.notes.length} notes`),
    make("ul", {}, data.notes.map((note) => make("li", {}, note))));
  document.getElementById("runs").append(...[make("div", { class: "card scroll" }, table), notes].filter(Boolean));
}
