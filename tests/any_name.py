"""A name of every kind of character that a file may have and that some language takes for its own: addresses, configuration,
templates, shells, markup, terminals."""

ANY_NAME = """a #b ?c %41 %(x)s "q" 'q' [x] $HOME ${HOME} ~ \\ ,=;: täst 日本 \n \x1b[31m<b>[red]"""
