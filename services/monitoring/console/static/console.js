// What the pages do by themselves. Without this file they work, and stand still.
"use strict";
(() => {
  const lost = document.getElementById("lost");
  let failures = 0;

  // A page that nobody looks at asks for nothing; nor while a text is being selected, which a swap would undo.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const selection = document.getSelection();
    if (document.hidden || (selection && !selection.isCollapsed)) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    failures = event.detail.successful ? 0 : failures + 1;
    if (lost) lost.hidden = failures < 2;
  });

  const place = document.getElementById("charts");
  if (!place || typeof uPlot === "undefined") return;

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dashes = [[], [6, 4], [2, 3], [10, 4, 2, 4]];
  const lines = ["--line-1", "--line-2", "--line-3", "--line-4"];
  const plots = new Map();
  let drawn = "";

  // A value between two gaps has no line; it gets a point, or it would not be seen.
  const lonely = (plot, series) => plot.data[series].flatMap((v, i, all) =>
    v !== null && v !== undefined && all[i - 1] == null && all[i + 1] == null ? [i] : []);

  const options = (element, key, arms) => ({
    width: Math.max(element.clientWidth, 200),
    height: 160,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 8, 0, 0],
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.15 : 1] } },
    axes: [
      { stroke: style("--muted"), grid: { show: false }, ticks: { show: false }, font: "11px system-ui, sans-serif", space: 70, size: 28,
        values: (_, at) => at.map((s) => new Date(s * 1000).toISOString().slice(...(at[1] - at[0] >= 43200 ? [5, 10] : [11, 16]))) },
      { stroke: style("--muted"), grid: { stroke: style("--rule"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif", size: 46, space: 34,
        values: (_, all) => all.map((v) => (v >= 1000 ? `${v / 1000}k` : `${+v.toPrecision(3)}`)) },
    ],
    series: [{}, ...arms.map((_, i) => ({ stroke: style(lines[i % 4]), dash: dashes[i % 4], width: 2, points: { show: true, size: 5, fill: style(lines[i % 4]), filter: lonely }, spanGaps: false }))],
  });

  const legend = (arms) => {
    const list = document.getElementById("arms");
    list.replaceChildren(...arms.map((arm, i) => {
      const item = document.createElement("span");
      item.className = `key key-${i % 4}`;
      item.textContent = arm;
      return item;
    }));
    if (!arms.length) list.textContent = "Nothing was answered in this time.";
  };

  const draw = (found) => {
    const names = found.arms.map((a) => a.arm);
    const state = JSON.stringify([names, style("--muted")]);
    const anew = state !== drawn;
    if (anew) legend(names);
    drawn = state;
    for (const element of place.querySelectorAll(".chart")) {
      const key = element.dataset.key;
      const scale = key === "error_share" ? 100 : 1;
      const data = [found.at, ...found.arms.map((a) => a[key].map((v) => (v === null ? null : v * scale)))];
      if (!anew && plots.has(key)) {
        plots.get(key).setData(data);
        continue;
      }
      if (plots.has(key)) plots.get(key).destroy();
      plots.set(key, new uPlot(options(element, key, names), data, element));
    }
  };

  const load = async () => {
    if (document.hidden) return;
    try {
      const response = await fetch(place.dataset.series, { headers: { accept: "application/json" } });
      if (response.ok) draw(await response.json());
    } catch {
      // htmx's own request says that nothing answers.
    }
  };

  new ResizeObserver(() => {
    for (const [, plot] of plots) plot.setSize({ width: Math.max(plot.root.parentElement.clientWidth, 200), height: 160 });
  }).observe(place);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", load);
  load();
  setInterval(load, 1000 * place.dataset.every);
})();
