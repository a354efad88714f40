(() => {
  const figure = document.currentScript.closest("figure");
  const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const sliders = [...figure.querySelectorAll("input[type=range]")];
  const image = figure.querySelector("img"), caption = figure.querySelector("figcaption");
  const cut = label => {
    const letters = [...label], end = Math.floor(data.most / 2);
    if (letters.length <= data.most) return label;
    return [...letters.slice(0, data.most - end - 1), "…", ...letters.slice(-end)].join("");
  };
  const update = () => {
    let index = 0;
    sliders.forEach((slider, k) => {
      const label = data.labels[k][slider.value];
      slider.setAttribute("aria-valuetext", label);
      slider.nextElementSibling.value = cut(label);
      slider.nextElementSibling.title = label;
      index = index * data.labels[k].length + Number(slider.value);
    });
    image.src = data.frames[index][0];
    image.alt = caption.textContent = data.frames[index][1];
  };
  sliders.forEach(slider => { slider.disabled = false; slider.addEventListener("input", update); });
  update();
})();
