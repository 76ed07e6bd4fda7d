"""Write docs/recipe-reference.md from the dataclasses that read recipes: python docs/generate_recipe_reference.py"""

from pathlib import Path

from aeops.recipe.reference import reference_page

PAGE = Path(__file__).with_name("recipe-reference.md")

if __name__ == "__main__":
    PAGE.write_text(reference_page(), encoding="utf-8")
