"""Check recipe names, also those whose file is gone or invalid: their ledger stays readable."""

from aeops.project import Project, shorten_name


def require_recipe_name(project: Project, recipe: str) -> None:
    """Require a recipe or a ledger of that name.

    Raises:
        UsageError: there is neither; the message lists the names and suggests a near match.
    """
    from ae_models.spec import join_names, suggest_match
    from aeops.errors import UsageError
    from aeops.recipe.reader import recipe_names
    from aeops.registry.ledger import recipes_with_ledger

    all_names = sorted({*recipe_names(project), *recipes_with_ledger(project)})
    if recipe not in all_names:
        expected = join_names(all_names) or "a file in recipes/"
        raise UsageError(f"no recipe {shorten_name(recipe)!r}: expected {expected}{suggest_match(recipe, all_names)}")
