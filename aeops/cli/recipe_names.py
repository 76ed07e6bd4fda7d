"""Recipes by their names, also those whose file is gone or faulty: what was registered stays to be looked after."""

from aeops.project import Project


def require_known(project: Project, recipe: str) -> None:
    """Raises UsageError where there is neither a recipe nor a ledger of that name; says which there are."""
    from ae_models.spec import join_names, suggest_match
    from aeops.errors import UsageError
    from aeops.recipe.reader import recipe_names
    from aeops.registry.ledger import recipes_with_ledger

    known = sorted({*recipe_names(project), *recipes_with_ledger(project)})
    if recipe not in known:
        raise UsageError(f"no recipe {recipe!r}; {join_names(known) or 'none'} allowed{suggest_match(recipe, known)}")
