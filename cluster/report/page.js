"use strict";
// Draws the page's charts in the colours of the reader's theme, and anew when the theme or the room changes.
(() => {
  const told = JSON.parse(document.getElementById("told").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coloured = (tree) => {
    const style = getComputedStyle(document.documentElement);
    return JSON.parse(JSON.stringify(tree, (key, value) =>
      typeof value === "string" && /^@\w+$/.test(value) ? style.getPropertyValue("--" + value.slice(1)).trim() : value));
  };
  const narrow = (place) => place.clientWidth < 480;
  // How many names of a legend fit side by side: as many as have room for the longest.
  const columns = (tree, room) => {
    let longest = 4;
    JSON.stringify(tree, (key, value) => {
      if (key === "domain" && Array.isArray(value) && typeof value[0] === "string") longest = Math.max(longest, ...value.map((name) => name.length));
      return value;
    });
    return Math.max(1, Math.min(8, Math.floor((room - 70) / (7 * Math.min(longest, 30) + 30))));
  };
  const draw = async (place) => {
    const spec = {width: "container", height: 230, background: null, autosize: {type: "fit-x", contains: "padding"}, ...coloured(told.charts[place.id])};
    const config = coloured(told.config);
    config.legend = {...config.legend, columns: columns(spec, place.clientWidth)};
    const download = {export: {svg: true, png: true}, source: false, compiled: false, editor: false};
    const file = (document.title + "-" + place.closest("section").id).replace(/[^\w-]+/g, "-");
    place.drawnNarrow = narrow(place);
    await winnowEmbed(place, spec, {mode: "vega-lite", config, renderer: "svg", ast: true, actions: download,
      downloadFileName: file, tooltip: {theme: dark.matches ? "dark" : "light"}});
  };
  const places = [...document.querySelectorAll(".chart")];
  const drawAll = async (which) => {
    for (const place of which) {
      try { await draw(place); } catch (failure) { place.textContent = "This chart cannot be drawn: " + failure.message; }
    }
    document.documentElement.dataset.drawn = "yes";
  };
  drawAll(places);
  dark.addEventListener("change", () => drawAll(places));
  addEventListener("resize", () => drawAll(places.filter((place) => place.drawnNarrow !== narrow(place))));
})();
