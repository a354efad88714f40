// The ledger's summary: how many claims have which verdict, and a choice of which to show.
// Counts what the page holds, so that no number is typed.

const VERDICTS = { yes: "reproduced", partly: "partly", no: "not reproduced", none: "no verdict here" };
const STUDIES = { saini: "Saini & Papalexakis", zhang: "Zhang" };

/** @param {HTMLElement} box of one claim @returns {Record<string, string>} what it can be chosen by */
function describe(box) {
  const link = box.querySelector("dd a")?.getAttribute("href") ?? "";
  return {
    study: box.id.startsWith("claim-zhang-") ? "zhang" : "saini",
    chapter: String(Number(link.match(/notebooks\/(\d+)/)?.[1] ?? 0)),
    verdict: box.dataset.verdict ?? "none",
  };
}

/** @param {HTMLElement} box @returns {HTMLElement[]} what goes with it: its frame, and notes below */
function withNotes(box) {
  const frame = box.closest(".output") ?? box;
  const found = [frame];
  for (let next = frame.nextElementSibling; next?.matches("p, div.cell_output > p"); next = next.nextElementSibling) {
    found.push(next);
  }
  return /** @type {HTMLElement[]} */ (found);
}

/** @param {string} tag @param {Record<string, string>} attributes @param {...(Node | string)} inside */
function element(tag, attributes, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

/** @param {Record<string, string>[]} claims @returns {HTMLElement} verdicts by study */
function tally(claims) {
  const shown = Object.keys(VERDICTS).filter((verdict) => claims.some((claim) => claim.verdict === verdict));
  const count = (verdict, study) =>
    claims.filter((claim) => claim.verdict === verdict && (!study || claim.study === study)).length;
  const heads = ["verdict", ...Object.values(STUDIES), "both"];
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const rows = shown.map((verdict) => {
    const counts = [...Object.keys(STUDIES), ""].map((study) => String(count(verdict, study)));
    const cells = counts.map((text) => element("td", {}, text));
    return element("tr", {}, element("th", { scope: "row" }, VERDICTS[verdict]), ...cells);
  });
  return element("table", { class: "table" }, element("thead", {}, head), element("tbody", {}, ...rows));
}

/** @param {string} name @param {[string, string][]} options @param {() => void} change */
function choice(name, options, change) {
  const select = element("select", { name }, element("option", { value: "" }, "all"));
  for (const [value, text] of options) select.append(element("option", { value }, text));
  select.addEventListener("change", change);
  return element("label", {}, `${name} `, select);
}

function summarize() {
  const place = document.getElementById("ledger-summary");
  const boxes = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("dl.peek-claim")]);
  if (!place || !boxes.length) return;
  const claims = boxes.map(describe);
  const said = element("output", {});
  const choose = () => {
    const wanted = Object.fromEntries(new FormData(form));
    let left = 0;
    boxes.forEach((box, at) => {
      const fits = Object.entries(wanted).every(([name, value]) => !value || claims[at][name] === value);
      left += Number(fits);
      for (const part of withNotes(box)) part.hidden = !fits;
    });
    said.textContent = `${left} of ${boxes.length} claims shown`;
  };
  const chapters = [...new Set(claims.map((claim) => claim.chapter))].sort((a, b) => Number(a) - Number(b));
  const verdicts = Object.entries(VERDICTS).filter(([verdict]) => claims.some((claim) => claim.verdict === verdict));
  const form = /** @type {HTMLFormElement} */ (
    element(
      "form",
      { class: "peek-choices", "aria-label": "Which claims to show" },
      choice("study", Object.entries(STUDIES), choose),
      choice("chapter", chapters.map((chapter) => [chapter, chapter]), choose),
      choice("verdict", verdicts, choose),
      said,
    )
  );
  place.replaceChildren(tally(claims), form);
  choose();
}

summarize();
